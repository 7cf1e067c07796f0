"""Which override of a step counts for a layer: of those that match it, the first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from featherweight.spec import LayerSelection
from tasks.compression.selection import Named

__all__ = ["Override", "Select", "first_matches", "unused"]

Select = Callable[[LayerSelection, str], Iterable[Named]]
"""The layers that a selection names; CompressionError layer_not_found at the pointer given with it."""


class Override(Protocol):
    @property
    def layers(self) -> LayerSelection: ...


def first_matches(overrides: Sequence[Override], pointer: str, select: Select) -> dict[str, int]:
    """The index of the first override that matches each layer, by path; `pointer` is the step's."""
    found: dict[str, int] = {}
    for index, override in enumerate(overrides):
        for place in select(override.layers, f"{pointer}/overrides/{index}/layers"):
            found.setdefault(place.path, index)
    return found


def unused(overrides: Sequence[Override], matches: Mapping[str, int], changed: Collection[str]) -> list[int]:
    """The overrides none of whose layers is `changed`, or not without an earlier override for it."""
    used = {index for path, index in matches.items() if path in changed}
    return [index for index in range(len(overrides)) if index not in used]
