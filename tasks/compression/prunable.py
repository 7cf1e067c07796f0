"""Which layers a prune step applies to, with which schedule, and why not to others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from featherweight.spec import Prune, PruningSchedule
from tasks.compression.layers import Layers, Placed
from tasks.compression.overrides import first_matches, unused
from tasks.compression.pending import Pending

__all__ = [
    "Pruning",
    "left_out",
    "prunable",
    "schedules",
    "unsupported",
    "unused_overrides",
]


@dataclass(frozen=True)
class Pruning:
    """What a framework's layers bear.

    `no_pruning` says why those of a kind without kernels cannot be pruned; `obstacle` why the step's pattern
    cannot be laid on kernels of these shapes in a layer of that kind, None when it can; `left_out` why the
    pattern leaves a layer alone by its own rule, None when it does not.
    """

    layers: Layers
    no_pruning: Callable[[str], str]
    obstacle: Callable[[str, Sequence[Sequence[int]], Prune], str | None]
    left_out: Callable[[Any, Prune], str | None]


def prunable(model: Any, pending: Pending[Prune], pruning: Pruning) -> list[Placed]:
    """The layers a prune step selects that have weights it can prune. CompressionError layer_not_found."""
    step = pending.step
    return [
        place
        for place in _selected(model, pending, pruning)
        if pruning.layers.kernels(place.layer)
        and _obstacle(place.layer, step, pruning) is None
        and pruning.left_out(place.layer, step) is None
    ]


def schedules(model: Any, pending: Pending[Prune], pruning: Pruning) -> dict[str, PruningSchedule]:
    """The schedule of each prunable layer: that of the first override that matches, else the step's."""
    step, found = pending.step, _overridden(model, pending, pruning)
    return {
        place.path: step.overrides[found[place.path]].schedule if place.path in found else step.schedule
        for place in prunable(model, pending, pruning)
    }


def unused_overrides(model: Any, pending: Pending[Prune], pruning: Pruning) -> list[int]:
    """The overrides none of whose layers is prunable, or not without an earlier override for it."""
    changed = {place.path for place in prunable(model, pending, pruning)}
    return unused(pending.step.overrides, _overridden(model, pending, pruning), changed)


def unsupported(model: Any, pending: Pending[Prune], pruning: Pruning) -> Iterator[tuple[Placed, str]]:
    """Selected layers with weights worth pruning that cannot be, and why. Vectors (biases, the statistics of
    a normalisation) are never pruned and do not count."""
    layers, step = pruning.layers, pending.step
    for place in _selected(model, pending, pruning):
        if not layers.has_matrices(place.layer) or pruning.left_out(place.layer, step) is not None:
            continue
        if not layers.kernels(place.layer):
            yield place, pruning.no_pruning(layers.kind(place.layer))
        elif (why := _obstacle(place.layer, step, pruning)) is not None:
            yield place, why


def left_out(model: Any, pending: Pending[Prune], pruning: Pruning) -> Iterator[tuple[Placed, str]]:
    """Selected layers with prunable weights that the pattern leaves alone by its own rule, and why."""
    for place in _selected(model, pending, pruning):
        why = pruning.left_out(place.layer, pending.step)
        if why is not None and pruning.layers.kernels(place.layer):
            yield place, why


def _selected(model: Any, pending: Pending[Prune], pruning: Pruning) -> Sequence[Placed]:
    return pruning.layers.select(model, pending.step.layers, f"{pending.pointer}/layers")


def _overridden(model: Any, pending: Pending[Prune], pruning: Pruning) -> Mapping[str, int]:
    return first_matches(pending.step.overrides, pending.pointer, partial(pruning.layers.select, model))


def _obstacle(layer: Any, step: Prune, pruning: Pruning) -> str | None:
    shapes = [tuple(weight.shape) for weight in pruning.layers.kernels(layer)]
    return pruning.obstacle(pruning.layers.kind(layer), shapes, step)
