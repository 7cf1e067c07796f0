"""Unstructured pruning: at once, or noted down for the training that follows to carry out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from featherweight.spec import Prune, XnnpackLatency
from tasks.compression.backends.tensorflow.at_once import carry_out
from tasks.compression.backends.tensorflow.masks import is_global
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.prunability import NOT_FOR_XNNPACK, refused
from tasks.compression.backends.tensorflow.prunable import (
    check_xnnpack,
    left_out,
    prunable,
    schedules,
    target,
    unsupported,
    unused_overrides,
)
from tasks.compression.context import Context
from tasks.compression.pending import Pending
from tasks.compression.waiting import waits
from tasks.compression.workspace import LayerNote

__all__ = ["check", "prune"]


def check(network: Network, step: Prune, pointer: str) -> None:
    """CompressionError layer_not_found; layer_not_supported where the step says ``error``, and for a model
    that the pattern ``xnnpack_latency`` does nothing for."""
    if isinstance(step.pattern, XnnpackLatency):
        check_xnnpack(network.model, pointer)
    schedules(network, Pending(step, pointer))
    _refuse_layers(network.model, step, pointer)


def prune(network: Network, step: Prune, context: Context) -> Network:
    """Prune at once to the schedules' final sparsity, or leave the step pending when training follows.

    CompressionError layer_not_supported for layers an earlier step changed, where this one says ``error``.
    """
    _refuse_layers(network.model, step, context.pointer)
    pending = Pending(step, context.pointer)
    _note(network, pending, context)
    if prunable(network, pending):
        sparse = network.sparse_kernels or isinstance(step.pattern, XnnpackLatency)
        network = replace(network, pending=(*network.pending, pending), sparse_kernels=sparse)
    if waits(step, context.following):
        return network
    return carry_out(network, context)


def _refuse_layers(model: Any, step: Prune, pointer: str) -> None:
    for place, why in unsupported(model, step, pointer):
        if step.on_unsupported == "error":
            raise refused(place.path, why, pointer)


def _note(network: Network, pending: Pending[Prune], context: Context) -> None:
    step, layers = pending.step, context.record.layers
    along = schedules(network, pending)
    for path, schedule in along.items():
        layers[path] = LayerNote(target_sparsity=target(step, schedule))
    for place, why in unsupported(network.model, step, pending.pointer):
        layers[place.path] = LayerNote(skipped=why)
        context.warn("layer_skipped", layer=place.path, why=why)
    for place in left_out(network.model, step, pending.pointer):
        layers[place.path] = LayerNote(skipped=NOT_FOR_XNNPACK)
    for index in unused_overrides(network, pending):
        context.warn("override_unused", index=index)
    context.record.details.update(method=step.method, pattern=step.pattern.type, layers=len(along))
    if is_global(step):
        context.record.details["sparsity"] = target(step, step.schedule)
