"""What the inputs and outputs of a ``.pt2`` are called: as the caller said, else as the loader names them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["NAMES", "names_of"]

NAMES = "extra/featherweight.json"
"""The member of the archive with the caller's own names."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def names_of(
    program: Mapping[str, Any], told: Mapping[str, Any], inputs: Sequence[str], outputs: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Of the inputs and of the outputs, which the graph calls `inputs` and `outputs`; `told` is the content
    of the member NAMES. ValueError for names that are none, or of another number."""
    return (
        _checked(told.get("input_names"), inputs, inputs),
        _checked(told.get("output_names"), outputs, _by_keys(program, outputs)),
    )


def _checked(given: Any, tensors: Sequence[str], default: Sequence[str]) -> tuple[str, ...]:
    if given is None:
        return tuple(default)
    plain = isinstance(given, list) and all(isinstance(name, str) and _NAME.fullmatch(name) for name in given)
    if not plain or len(given) != len(tensors) or len(set(given)) != len(given):
        raise ValueError("the names of its inputs and outputs are not one for each")
    return tuple(given)


def _by_keys(program: Mapping[str, Any], outputs: Sequence[str]) -> Sequence[str]:
    """The keys where the model answers with a dictionary; else output, or output_0, output_1 ..."""
    calls = program["graph_module"].get("module_call_graph") or [{}]
    spec = (calls[0].get("signature") or {}).get("out_spec")
    branch = json.loads(spec)[1] if isinstance(spec, str) else {}
    keys = json.loads(branch["context"]) if branch.get("type") == "builtins.dict" else []
    if len(keys) == len(outputs) and all(isinstance(key, str) and _NAME.fullmatch(key) for key in keys):
        return [str(key) for key in keys]
    return ["output"] if len(outputs) == 1 else [f"output_{index}" for index in range(len(outputs))]
