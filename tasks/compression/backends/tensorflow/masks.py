"""Wraps layers for training with TFMOT's pruning, and takes the wrapping off again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.compression.backends.tensorflow._framework import keras, sparsity, strip_pruning, tf
from tasks.compression.backends.tensorflow.layers import kernels, placed_layers, zero_share
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.prune import prunable
from tasks.compression.backends.tensorflow.schedule import KeptMask, step_schedule

__all__ = ["KEEP_ZEROS_FROM", "MaskPlan", "mask_plan", "unwrapped", "wrapped"]

KEEP_ZEROS_FROM = 0.05
"""A layer with at least this share of exact zeros was pruned on purpose: training keeps its zeros."""


@dataclass(frozen=True)
class MaskPlan:
    """`schedules` has a TFMOT schedule for each path of a layer to wrap, `targets` the final sparsity of
    those that are pruned further, `kept` the share of zeros of those whose zeros are only kept."""

    schedules: Mapping[str, Any]
    targets: Mapping[str, float]
    kept: Mapping[str, float]


def mask_plan(network: Network) -> MaskPlan:
    """From the pending prune steps (of two that select a layer the later counts) and the zeros there are."""
    schedules: dict[str, Any] = {}
    targets: dict[str, float] = {}
    kept: dict[str, float] = {}
    for place in placed_layers(network.model):
        zeros = zero_share(kernels(place.layer))
        if zeros >= KEEP_ZEROS_FROM:
            schedules[place.path], kept[place.path] = KeptMask(), zeros
    for pending in network.pending:
        schedule = pending.step.schedule
        for place in prunable(network, pending):
            floor = kept.get(place.path, 0.0)
            schedules[place.path] = step_schedule(schedule, floor)
            targets[place.path] = max(schedule.final_sparsity, floor)
    return MaskPlan(schedules, targets, {path: kept[path] for path in kept if path not in targets})


def wrapped(model: Any, plan: MaskPlan) -> Any:
    """A model that shares the layers of `model`, those in the plan wrapped by prune_low_magnitude with
    masks that hold the zeros they have."""
    if not plan.schedules:
        return model
    clone = _clone(model, plan, "")
    for layer in _wrappers(clone):
        for weight, mask, _ in layer.pruning_vars:
            mask.assign(tf.cast(tf.not_equal(weight, 0), mask.dtype))
    return clone


def unwrapped(model: Any, plan: MaskPlan) -> Any:
    """Masks applied a last time, then strip_pruning."""
    if not plan.schedules:
        return model
    for layer in _wrappers(model):
        layer.pruning_obj.weight_mask_op()
    return strip_pruning(model)


def total_sparsity(model: Any) -> float | None:
    """The share of zeros the masks of a wrapped model stand for; None without any."""
    masks = [mask.numpy() for layer in _wrappers(model) for _, mask, _ in layer.pruning_vars]
    size = sum(mask.size for mask in masks)
    return 1.0 - sum(int(np.count_nonzero(mask)) for mask in masks) / size if size else None


def _clone(model: Any, plan: MaskPlan, prefix: str) -> Any:
    def wrap(layer: Any) -> Any:
        path = f"{prefix}{layer.name}"
        if isinstance(layer, keras.Model):
            return _clone(layer, plan, f"{path}/")
        schedule = plan.schedules.get(path)
        return layer if schedule is None else sparsity.prune_low_magnitude(layer, pruning_schedule=schedule)

    return keras.models.clone_model(model, clone_function=wrap)


def _wrappers(model: Any) -> list[Any]:
    from tensorflow_model_optimization.python.core.sparsity.keras.pruning_wrapper import (
        collect_prunable_layers,
    )

    found: list[Any] = collect_prunable_layers(model)
    return found
