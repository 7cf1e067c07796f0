"""What a training prunes, and which zeros it keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from featherweight.spec import Prune, PruningSchedule, Unstructured, XnnpackLatency
from tasks.compression.assignments import Assignment, Rule, remark_on_frequencies, warn_of_late_ends
from tasks.compression.context import Context
from tasks.compression.layers import Layers, Placed
from tasks.compression.prunability import KEEP_ZEROS_FROM, is_global, target
from tasks.compression.prunable import Pruning, prunable, schedules
from tasks.compression.samples import Array
from tasks.compression.underway import Underway

__all__ = ["MaskPlan", "PruningRules", "assignments", "holds_zeros", "masked_share", "planned", "steps_of"]


class LayerRule(Protocol):
    """The rule for one layer, which the step's method and pattern can be applied to."""

    def __call__(self, place: Any, step: Prune, *, keep_zeros: bool, seed: int) -> Rule: ...


class GlobalRule(Protocol):
    """The one rule for all layers of a step whose method ranks across them; `keep_zeros` is of each."""

    def __call__(self, places: Any, step: Prune, *, keep_zeros: Sequence[bool]) -> Rule: ...


@dataclass(frozen=True)
class PruningRules(Pruning):
    """What a framework's layers bear, and by which rules it is done."""

    layer_rule: LayerRule
    global_rule: GlobalRule


@dataclass(frozen=True)
class MaskPlan:
    """`assignments` are what is pruned further; `zeros` the share of zeros of every layer that was pruned on
    purpose, be it pruned further or not."""

    assignments: Sequence[Assignment[Any]]
    zeros: Mapping[str, float]

    @property
    def targets(self) -> dict[str, float]:
        """The final sparsity of the layers that are pruned further."""
        return {path: item.target for item in self.assignments for path in item.paths}

    @property
    def kept(self) -> dict[str, float]:
        """The share of zeros of layers whose zeros are only kept."""
        pruned = self.targets
        return {path: share for path, share in self.zeros.items() if path not in pruned}

    @property
    def paths(self) -> list[str]:
        """Of all layers with masks."""
        return [*self.kept, *self.targets]


def planned(network: Underway, steps: int, context: Context, pruning: PruningRules) -> MaskPlan:
    """The plan of a training of `steps` optimiser steps, whose schedules are resolved ones; what will not be
    as asked for is said."""
    zeros = _zeros_to_keep(network.model, pruning.layers)
    plan = MaskPlan(assignments(network, context.seed, pruning), zeros)
    warn_of_late_ends(plan.assignments, steps, context)
    for path, share in plan.kept.items():
        if path not in network.pruned:
            context.warn("existing_zeros_kept", layer=path, share=share)
    remark_on_frequencies(steps_of(network), context)
    return plan


def steps_of(network: Underway) -> list[Prune]:
    """The prune steps that wait."""
    return [pending.step for pending in network.waiting(Prune)]


def assignments(network: Underway, seed: int, pruning: PruningRules) -> list[Assignment[Any]]:
    """The pending prune steps as rules, each layer in the last that selects it."""
    model, waiting = network.model, network.waiting(Prune)
    last = {
        place.path: index
        for index, pending in enumerate(waiting)
        for place in prunable(model, pending, pruning)
    }
    found: list[Assignment[Any]] = []
    for index, pending in enumerate(waiting):
        places = [place for place in prunable(model, pending, pruning) if last[place.path] == index]
        if not places:
            continue
        zeros = _zeros_to_keep(model, pruning.layers)
        if is_global(pending.step):
            found.append(_together(places, pending.step, zeros, pruning))
            continue
        along = schedules(model, pending, pruning)
        found += [_alone(place, pending.step, along[place.path], zeros, seed, pruning) for place in places]
    return found


def holds_zeros(network: Underway, layers: Layers) -> set[str]:
    """The layers whose zeros are not weights like any other, since pruning made them."""
    return {*network.pruned, *_zeros_to_keep(network.model, layers)}


def masked_share(masks: Iterable[Array]) -> float | None:
    """The share of zeros that masks stand for; None without any."""
    counts = [(mask.size, int(np.count_nonzero(mask))) for mask in masks]
    size = sum(whole for whole, _ in counts)
    return 1.0 - sum(left for _, left in counts) / size if size else None


def _zeros_to_keep(model: Any, layers: Layers) -> dict[str, float]:
    """The share of zeros of every layer that was pruned on purpose."""
    shares = {place.path: layers.zero_share(layers.kernels(place.layer)) for place in layers.placed(model)}
    return {path: share for path, share in shares.items() if share >= KEEP_ZEROS_FROM}


def _alone(
    place: Placed,
    step: Prune,
    schedule: PruningSchedule,
    zeros: Mapping[str, float],
    seed: int,
    pruning: PruningRules,
) -> Assignment[Any]:
    rule = pruning.layer_rule(place, step, keep_zeros=place.path in zeros, seed=seed)
    floor = zeros.get(place.path, 0.0) if isinstance(step.pattern, Unstructured | XnnpackLatency) else 0.0
    return Assignment(step, (place.path,), rule, schedule, max(target(step, schedule), floor), floor)


def _together(
    places: Sequence[Placed], step: Prune, zeros: Mapping[str, float], pruning: PruningRules
) -> Assignment[Any]:
    rule = pruning.global_rule(places, step, keep_zeros=[place.path in zeros for place in places])
    some = any(place.path in zeros for place in places)
    floor = pruning.layers.zero_share(rule.weights) if some else 0.0
    paths = tuple(place.path for place in places)
    weights = {place.path: pruning.layers.kernels(place.layer) for place in places}
    least = max(target(step, step.schedule), floor)
    return Assignment(step, paths, rule, step.schedule, least, floor, weights)
