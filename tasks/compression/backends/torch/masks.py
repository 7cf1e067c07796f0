"""What a training prunes and which zeros it keeps, and the masks that do it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from featherweight.spec import Prune, PruningSchedule, Unstructured
from tasks.compression.assignments import Assignment, remark_on_frequencies, warn_of_late_ends
from tasks.compression.backends.torch._framework import fx, torch
from tasks.compression.backends.torch.layers import Placed, kernels, placed_layers, zero_share
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.prunable import prunable, schedules
from tasks.compression.backends.torch.rules import Rule, global_rule, layer_rule
from tasks.compression.context import Context
from tasks.compression.prunability import KEEP_ZEROS_FROM, is_global, target

__all__ = [
    "MaskPlan",
    "MaskedWeight",
    "assignments",
    "holds_zeros",
    "mask_plan",
    "masked_share",
    "planned",
    "steps_of",
]


@dataclass(frozen=True)
class MaskPlan:
    """`assignments` are what is pruned further, `targets` its final sparsity by layer, `kept` the share of
    zeros of layers whose zeros are only kept."""

    assignments: Sequence[Assignment[Rule]]
    targets: Mapping[str, float]
    kept: Mapping[str, float]

    @property
    def paths(self) -> list[str]:
        """Of all layers with masks."""
        return list(dict.fromkeys([*self.kept, *self.targets]))


class MaskedWeight:
    """A weight and where it stays: at first where it is not zero."""

    def __init__(self, name: str, weight: torch.Tensor) -> None:
        self.name = name
        self.weight = weight
        self.mask = weight.detach() != 0
        self.threshold = 0.0
        """The smallest magnitude that the last update left."""

    def update(self, mask: torch.Tensor) -> None:
        self.mask = mask
        left = self.weight.detach()[mask].abs()
        self.threshold = float(left.min()) if left.numel() else 0.0
        self.apply()

    def apply(self) -> None:
        # A product, so that a weight which is no number any more stays one that is none.
        with torch.no_grad():
            self.weight.mul_(self.mask)


def planned(network: Network, steps: int, context: Context) -> MaskPlan:
    """The mask plan of a training of `steps` optimiser steps; what will not be as asked for is said."""
    plan = mask_plan(network, seed=context.seed)
    warn_of_late_ends(plan.assignments, steps, context)
    for path, share in plan.kept.items():
        if path not in network.pruned:
            context.warn("existing_zeros_kept", layer=path, share=share)
    remark_on_frequencies(steps_of(network), context)
    return plan


def steps_of(network: Network) -> list[Prune]:
    """The prune steps that wait."""
    return [pending.step for pending in network.waiting(Prune)]


def mask_plan(network: Network, *, seed: int = 0) -> MaskPlan:
    """From the pending prune steps (of two that select a layer the later counts) and the zeros there are.

    The schedules of the pending steps are resolved ones."""
    kept = _zeros_to_keep(network.model)
    assigned = assignments(network, seed)
    targets = {path: item.target for item in assigned for path in item.paths}
    return MaskPlan(assigned, targets, {path: kept[path] for path in kept if path not in targets})


def assignments(network: Network, seed: int) -> list[Assignment[Rule]]:
    """The pending prune steps as rules, each layer in the last that selects it."""
    waiting = network.waiting(Prune)
    last = {
        place.path: index for index, pending in enumerate(waiting) for place in prunable(network, pending)
    }
    zeros = _zeros_to_keep(network.model)
    found: list[Assignment[Rule]] = []
    for index, pending in enumerate(waiting):
        places = [place for place in prunable(network, pending) if last[place.path] == index]
        if not places:
            continue
        if is_global(pending.step):
            found.append(_together(places, pending.step, zeros))
            continue
        along = schedules(network, pending)
        found += [_alone(place, pending.step, along[place.path], zeros, seed) for place in places]
    return found


def holds_zeros(network: Network) -> set[str]:
    """The layers whose zeros are not weights like any other, since pruning made them."""
    return {*network.pruned, *_zeros_to_keep(network.model)}


def masked_share(masks: Iterable[torch.Tensor]) -> float | None:
    """The share of zeros that masks stand for; None without any."""
    counts = [(mask.numel(), int(torch.count_nonzero(mask))) for mask in masks]
    size = sum(whole for whole, _ in counts)
    return 1.0 - sum(left for _, left in counts) / size if size else None


def _zeros_to_keep(model: fx.GraphModule) -> dict[str, float]:
    """The share of zeros of every layer that was pruned on purpose."""
    shares = {place.path: zero_share(kernels(place.layer)) for place in placed_layers(model)}
    return {path: share for path, share in shares.items() if share >= KEEP_ZEROS_FROM}


def _alone(
    place: Placed, step: Prune, schedule: PruningSchedule, zeros: Mapping[str, float], seed: int
) -> Assignment[Rule]:
    rule = layer_rule(place, step, keep_zeros=place.path in zeros, seed=seed)
    floor = zeros.get(place.path, 0.0) if isinstance(step.pattern, Unstructured) else 0.0
    return Assignment((place.path,), rule, schedule, max(target(step, schedule), floor), floor)


def _together(places: Sequence[Placed], step: Prune, zeros: Mapping[str, float]) -> Assignment[Rule]:
    rule = global_rule(places, step, keep_zeros=[place.path in zeros for place in places])
    floor = zero_share(rule.weights) if any(place.path in zeros for place in places) else 0.0
    paths = tuple(place.path for place in places)
    layers = {place.path: kernels(place.layer) for place in places}
    return Assignment(paths, rule, step.schedule, max(target(step, step.schedule), floor), floor, layers)
