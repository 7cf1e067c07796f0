"""Which of the caller's modules a call of a program was made in, and what its layer is called by that."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from itertools import count
from typing import Any

__all__ = ["module_called", "wishes"]

_STACKED = re.compile(r"[^,;]{0,500},(?P<path>[\w.@-]{0,500}),(?P<kind>[\w.<>]{1,500})")
_PATH = re.compile(r"(?:[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)?")
_LAYER = re.compile(r"torch\.nn\.modules\.[a-z]+\.[A-Za-z0-9_]+")


def module_called(metadata: Any) -> tuple[str, str] | None:
    """The path of the innermost module, and its class where that is one of PyTorch's layers, else ``module``;
    None where the `metadata` of the call does not tell."""
    stack = metadata.get("nn_module_stack") if isinstance(metadata, dict) else None
    if not isinstance(stack, str):
        return None
    match = _STACKED.fullmatch(stack.rpartition(";")[2])
    if match is None or not _PATH.fullmatch(match["path"].partition("@")[0]):
        return None
    path = match["path"].partition("@")[0]
    return path, match["kind"] if _LAYER.fullmatch(match["kind"]) else "module"


def wishes(best: str | None, where: str, operation: str, reserved: Container[str]) -> Iterator[str]:
    """Names for a layer, the best first, without end: `best`, where there is one, else the `operation` in the
    module `where` that calls it; then these with numbers. Those in `reserved` are only for who is meant."""
    if best:
        yield best
    else:
        best = f"{where}.{operation}" if where else operation
        if best not in reserved:
            yield best
    yield from (name for number in count(1) if (name := f"{best}_{number}") not in reserved)
