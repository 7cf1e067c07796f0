"""Wraps layers for training with TFMOT's pruning, and takes the wrapping off again.

TFMOT's wrapper keeps the masks, counts the steps and applies the masks; which weights stay is decided by our
own rules, since TFMOT's masks are per layer, hold more than asked for where weights share values, and have
structure only in matrices. The rule of several layers updates the masks of all when the first of them is
called; a layer called before that has its new mask from the next step on, and all have it in the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.compression.backends.tensorflow._framework import Pruning, keras, sparsity, strip_pruning, tf
from tasks.compression.backends.tensorflow.rules import Rule
from tasks.compression.backends.tensorflow.schedule import KeptMask, step_schedule
from tasks.compression.mask_plan import MaskPlan

__all__ = ["mask_schedules", "pruning_variables", "unwrapped", "wrapped"]


def mask_schedules(plan: MaskPlan) -> dict[str, Any]:
    """A TFMOT schedule for each path of a layer with masks."""
    schedules: dict[str, Any] = {path: KeptMask() for path in plan.zeros}
    for item in plan.assignments:
        schedules |= dict.fromkeys(item.paths, step_schedule(item.schedule, item.floor))
    return schedules


def wrapped(model: Any, plan: MaskPlan) -> Any:
    """A model that shares the layers of `model`, those in the plan wrapped by prune_low_magnitude with
    masks that hold the zeros they have."""
    schedules = mask_schedules(plan)
    if not schedules:
        return model
    made: dict[str, Any] = {}
    clone = _clone(model, schedules, "", made)
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
    if not plan.paths:
        return model
    for layer in _wrappers(model):
        layer.pruning_obj.weight_mask_op()
    return strip_pruning(model)


def pruning_variables(model: Any) -> list[tuple[Any, Any, Any]]:
    """Every weight, mask and threshold of a wrapped model."""
    return [variables for layer in _wrappers(model) for variables in layer.pruning_vars]


def _clone(model: Any, schedules: Mapping[str, Any], prefix: str, made: dict[str, Any]) -> Any:
    def wrap(layer: Any) -> Any:
        path = f"{prefix}{layer.name}"
        if isinstance(layer, keras.Model):
            return _clone(layer, schedules, f"{path}/", made)
        schedule = schedules.get(path)
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
