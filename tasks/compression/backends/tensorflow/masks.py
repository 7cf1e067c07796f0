"""Wraps layers for training with TFMOT's pruning, and takes the wrapping off again.

TFMOT's wrapper keeps the masks, counts the steps and applies the masks; which weights stay is decided by our
own rules, since TFMOT's masks are per layer, hold more than asked for where weights share values, and have
structure only in matrices. The rule of several layers updates the masks of all when the first of them is
called; a layer called before that has its new mask from the next step on, and all have it in the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featherweight.spec import Prune, PruningSchedule, Unstructured, XnnpackLatency
from tasks.compression.assignments import Assignment
from tasks.compression.backends.tensorflow._framework import Pruning, keras, sparsity, strip_pruning, tf
from tasks.compression.backends.tensorflow.layers import Placed, kernels, placed_layers, zero_share
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.prunable import prunable, schedules
from tasks.compression.backends.tensorflow.rules import Rule, global_rule, layer_rule
from tasks.compression.backends.tensorflow.schedule import KeptMask, step_schedule
from tasks.compression.prunability import KEEP_ZEROS_FROM, is_global, target

__all__ = [
    "MaskPlan",
    "assignments",
    "holds_zeros",
    "mask_plan",
    "pruning_variables",
    "total_sparsity",
    "unwrapped",
    "wrapped",
]


@dataclass(frozen=True)
class MaskPlan:
    """`schedules` has a TFMOT schedule for each path of a layer to wrap, `targets` the final sparsity of
    those that are pruned further, `kept` the share of zeros of those whose zeros are only kept."""

    schedules: Mapping[str, Any]
    targets: Mapping[str, float]
    kept: Mapping[str, float]
    assignments: Sequence[Assignment[Rule]] = ()


def mask_plan(network: Network, *, seed: int = 0) -> MaskPlan:
    """From the pending prune steps (of two that select a layer the later counts) and the zeros there are.

    The schedules of the pending steps are resolved ones."""
    kept = _zeros_to_keep(network.model)
    schedules: dict[str, Any] = {path: KeptMask() for path in kept}
    targets: dict[str, float] = {}
    assigned = assignments(network, seed)
    for item in assigned:
        schedule = step_schedule(item.schedule, item.floor)
        schedules |= dict.fromkeys(item.paths, schedule)
        targets |= dict.fromkeys(item.paths, item.target)
    return MaskPlan(schedules, targets, {path: kept[path] for path in kept if path not in targets}, assigned)


def assignments(network: Network, seed: int) -> list[Assignment[Rule]]:
    """The pending prune steps as rules, each layer in the last that selects it."""
    waiting = network.waiting(Prune)
    last = {
        place.path: index for index, pending in enumerate(waiting) for place in prunable(network, pending)
    }
    found: list[Assignment[Rule]] = []
    for index, pending in enumerate(waiting):
        places = [place for place in prunable(network, pending) if last[place.path] == index]
        if not places:
            continue
        zeros = _zeros_to_keep(network.model)
        if is_global(pending.step):
            found.append(_together(places, pending.step, zeros))
            continue
        along = schedules(network, pending)
        found += [_alone(place, pending.step, along[place.path], zeros, seed) for place in places]
    return found


def holds_zeros(network: Network) -> set[str]:
    """The layers whose zeros are not weights like any other, since pruning made them."""
    return {*network.pruned, *_zeros_to_keep(network.model)}


def wrapped(model: Any, plan: MaskPlan) -> Any:
    """A model that shares the layers of `model`, those in the plan wrapped by prune_low_magnitude with
    masks that hold the zeros they have."""
    if not plan.schedules:
        return model
    made: dict[str, Any] = {}
    clone = _clone(model, plan, "", made)
    for layer in made.values():
        for weight, mask, _ in layer.pruning_vars:
            mask.assign(tf.cast(tf.not_equal(weight, 0), mask.dtype))
    for item in plan.assignments:
        first, *others = (made[path] for path in item.paths)
        pruned = [variables for path in item.paths for variables in made[path].pruning_vars]
        first.pruning_obj = _RulePruning(first, item.rule, pruned)
        for layer in others:
            layer.pruning_obj = _RulePruning(layer, None, ())
    return clone


def unwrapped(model: Any, plan: MaskPlan) -> Any:
    """Masks applied a last time, then strip_pruning."""
    if not plan.schedules:
        return model
    for layer in _wrappers(model):
        layer.pruning_obj.weight_mask_op()
    return strip_pruning(model)


def pruning_variables(model: Any) -> list[tuple[Any, Any, Any]]:
    """Every weight, mask and threshold of a wrapped model."""
    return [variables for layer in _wrappers(model) for variables in layer.pruning_vars]


def total_sparsity(model: Any) -> float | None:
    """The share of zeros the masks of a wrapped model stand for; None without any."""
    masks = [mask.numpy() for _, mask, _ in pruning_variables(model)]
    size = sum(mask.size for mask in masks)
    return 1.0 - sum(int(np.count_nonzero(mask)) for mask in masks) / size if size else None


def _zeros_to_keep(model: Any) -> dict[str, float]:
    """The share of zeros of every layer that was pruned on purpose."""
    shares = {place.path: zero_share(kernels(place.layer)) for place in placed_layers(model)}
    return {path: share for path, share in shares.items() if share >= KEEP_ZEROS_FROM}


def _alone(
    place: Placed, step: Prune, schedule: PruningSchedule, zeros: Mapping[str, float], seed: int
) -> Assignment[Rule]:
    rule = layer_rule(place, step, keep_zeros=place.path in zeros, seed=seed)
    floor = zeros.get(place.path, 0.0) if isinstance(step.pattern, Unstructured | XnnpackLatency) else 0.0
    return Assignment((place.path,), rule, schedule, max(target(step, schedule), floor), floor)


def _together(places: Sequence[Placed], step: Prune, zeros: Mapping[str, float]) -> Assignment[Rule]:
    rule = global_rule(places, step, keep_zeros=[place.path in zeros for place in places])
    floor = zero_share(rule.weights) if any(place.path in zeros for place in places) else 0.0
    paths = tuple(place.path for place in places)
    layers = {place.path: kernels(place.layer) for place in places}
    return Assignment(paths, rule, step.schedule, max(target(step, step.schedule), floor), floor, layers)


def _clone(model: Any, plan: MaskPlan, prefix: str, made: dict[str, Any]) -> Any:
    def wrap(layer: Any) -> Any:
        path = f"{prefix}{layer.name}"
        if isinstance(layer, keras.Model):
            return _clone(layer, plan, f"{path}/", made)
        schedule = plan.schedules.get(path)
        if schedule is None:
            return layer
        made[path] = sparsity.prune_low_magnitude(layer, pruning_schedule=schedule)
        return made[path]

    return keras.models.clone_model(model, clone_function=wrap)


class _RulePruning(Pruning):  # type: ignore[misc]
    """What TFMOT's wrapper asks for mask updates and masked weights. `rule` updates the masks of `pruned`
    (weight, mask, threshold); without one, another layer's does it for this layer."""

    def __init__(self, wrapper: Any, rule: Rule | None, pruned: Sequence[tuple[Any, Any, Any]]) -> None:
        super().__init__(
            lambda: wrapper.pruning_step, wrapper.pruning_vars, wrapper.pruning_schedule, (1, 1), "AVG"
        )
        self._rule = rule
        self._pruned = pruned

    def conditional_mask_update(self) -> Any:
        rule = self._rule
        if rule is None:
            return tf.no_op()
        due, wanted = self._pruning_schedule(self._step_fn())
        return tf.cond(due, lambda: self._update(rule, wanted), tf.no_op)

    def _update(self, rule: Rule, wanted: Any) -> Any:
        assigned = []
        for (weight, mask, threshold), stays in zip(self._pruned, rule.masks(wanted), strict=True):
            assigned.append(mask.assign(tf.cast(stays, mask.dtype)))
            smallest = tf.reduce_min(tf.where(stays, tf.abs(weight), weight.dtype.max))
            assigned.append(threshold.assign(smallest))
        return tf.group(assigned)


def _wrappers(model: Any) -> list[Any]:
    from tensorflow_model_optimization.python.core.sparsity.keras.pruning_wrapper import (
        collect_prunable_layers,
    )

    found: list[Any] = collect_prunable_layers(model)
    return found
