"""A prune step: zeros at once, or noted down for the training that follows to make."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from featherweight.spec import Prune
from tasks.compression.at_once import Weights, carry_out
from tasks.compression.context import Context
from tasks.compression.pending import Pending
from tasks.compression.prunability import is_global, target
from tasks.compression.prunable import (
    Pruning,
    left_out,
    prunable,
    schedules,
    unsupported,
    unused_overrides,
)
from tasks.compression.selection import refused
from tasks.compression.underway import Underway, UnderwayT
from tasks.compression.waiting import waits
from tasks.compression.workspace import LayerNote

__all__ = ["check", "prune"]


def check(model: Any, step: Prune, pointer: str, pruning: Pruning) -> None:
    """CompressionError layer_not_found; layer_not_supported where the step says ``error``."""
    pending = Pending(step, pointer)
    schedules(model, pending, pruning)
    _refuse_layers(model, pending, pruning)


def prune(network: UnderwayT, step: Prune, context: Context, weights: Weights) -> UnderwayT:
    """Prune at once to the schedules' final sparsity, or leave the step pending when training follows.

    CompressionError layer_not_supported for layers an earlier step changed, where this one says ``error``.
    """
    pending = Pending(step, context.pointer)
    _refuse_layers(network.model, pending, weights.pruning)
    _note(network, pending, context, weights.pruning)
    if prunable(network.model, pending, weights.pruning):
        network = replace(network, pending=(*network.pending, pending))
    return network if waits(step, context.following) else carry_out(network, context, weights)


def _refuse_layers(model: Any, pending: Pending[Prune], pruning: Pruning) -> None:
    if pending.step.on_unsupported != "error":
        return
    for place, why in unsupported(model, pending, pruning):
        raise refused(place.path, "pruning", why, pending.pointer)


def _note(network: Underway, pending: Pending[Prune], context: Context, pruning: Pruning) -> None:
    step, layers = pending.step, context.record.layers
    along = schedules(network.model, pending, pruning)
    for path, schedule in along.items():
        layers[path] = LayerNote(target_sparsity=target(step, schedule))
    for place, why in unsupported(network.model, pending, pruning):
        layers[place.path] = LayerNote(skipped=why)
        context.warn("layer_skipped", layer=place.path, why=why)
    for place, why in left_out(network.model, pending, pruning):
        layers[place.path] = LayerNote(skipped=why)
    for index in unused_overrides(network.model, pending, pruning):
        context.warn("override_unused", index=index)
    context.record.details.update(method=step.method, pattern=step.pattern.type, layers=len(along))
    if is_global(step):
        context.record.details["sparsity"] = target(step, step.schedule)
