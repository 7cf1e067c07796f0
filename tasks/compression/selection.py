"""Which layers a pattern selects, for anything that has a `path` and a `name`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Protocol, TypeVar

from featherweight.spec import LayerSelection
from tasks.compression.errors import CompressionError

__all__ = ["Named", "matches", "refused", "select_from"]


class Named(Protocol):
    """`path` is the layer's name after those of the models it is nested in, `name` the layer's own."""

    @property
    def path(self) -> str: ...
    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=Named)


def select_from(
    layers: Iterable[N], selection: LayerSelection, pointer: str, *, weighted: Callable[[N], bool]
) -> list[N]:
    """The `layers` that `selection` names, by path or by bare name.

    Raises CompressionError layer_not_found for a pattern that matches none; `pointer` is that of the
    selection in the spec. `weighted` says of a layer whether it has weights, for the hint.
    """
    listed = list(layers)
    for group in ("include", "exclude"):
        for index, pattern in enumerate(getattr(selection, group)):
            if not any(matches(layer, pattern) for layer in listed):
                offered = [layer.path for layer in listed if weighted(layer)]
                raise _not_found(
                    [layer.path for layer in listed], offered, pattern, f"{pointer}/{group}/{index}"
                )
    return [
        layer
        for layer in listed
        if any(matches(layer, pattern) for pattern in selection.include)
        and not any(matches(layer, pattern) for pattern in selection.exclude)
    ]


def matches(layer: Named, pattern: str) -> bool:
    return fnmatchcase(layer.path, pattern) or fnmatchcase(layer.name, pattern)


def refused(path: str, purpose: str, why: str, pointer: str) -> CompressionError:
    """For a step at `pointer` that says ``error`` and selects a layer that cannot be had for `purpose`."""
    return CompressionError(
        "layer_not_supported",
        f"the layer {path} was selected for {purpose}: {why}",
        hint="exclude it, or set on_unsupported to skip",
        layer=path,
        pointer=f"{pointer}/layers",
    )


def _not_found(names: list[str], weighted: list[str], pattern: str, pointer: str) -> CompressionError:
    near = difflib.get_close_matches(pattern, names, n=3)
    offered = near or weighted[:8]
    return CompressionError(
        "layer_not_found",
        f"the pattern {pattern!r} matches no layer of the model",
        hint=f"{'did you mean' if near else 'layers with weights are'} {', '.join(offered)}",
        pointer=pointer,
    )
