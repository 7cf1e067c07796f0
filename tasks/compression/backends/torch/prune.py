"""Unstructured pruning: at once, or noted down for the training that follows to carry out."""

from __future__ import annotations

from dataclasses import replace

from featherweight.spec import Prune
from tasks.compression.backends.torch.at_once import carry_out
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.prunability import refuse_xnnpack
from tasks.compression.backends.torch.prunable import prunable, schedules, unsupported, unused_overrides
from tasks.compression.context import Context
from tasks.compression.pending import Pending
from tasks.compression.prunability import is_global, refused, target
from tasks.compression.waiting import waits
from tasks.compression.workspace import LayerNote

__all__ = ["check", "prune"]


def check(network: Network, step: Prune, pointer: str) -> None:
    """CompressionError layer_not_found; layer_not_supported where the step says ``error``, and for the
    pattern ``xnnpack_latency``."""
    refuse_xnnpack(step, pointer)
    schedules(network, Pending(step, pointer))
    _refuse_layers(network, step, pointer)


def prune(network: Network, step: Prune, context: Context) -> Network:
    """Prune at once to the schedules' final sparsity, or leave the step pending when training follows.

    CompressionError layer_not_supported for layers an earlier step changed, where this one says ``error``.
    """
    _refuse_layers(network, step, context.pointer)
    pending = Pending(step, context.pointer)
    _note(network, pending, context)
    if prunable(network, pending):
        network = replace(network, pending=(*network.pending, pending))
    return network if waits(step, context.following) else carry_out(network, context)


def _refuse_layers(network: Network, step: Prune, pointer: str) -> None:
    if step.on_unsupported != "error":
        return
    for place, why in unsupported(network.model, step, pointer):
        raise refused(place.path, why, pointer)


def _note(network: Network, pending: Pending[Prune], context: Context) -> None:
    step, layers = pending.step, context.record.layers
    along = schedules(network, pending)
    for path, schedule in along.items():
        layers[path] = LayerNote(target_sparsity=target(step, schedule))
    for place, why in unsupported(network.model, step, pending.pointer):
        layers[place.path] = LayerNote(skipped=why)
        context.warn("layer_skipped", layer=place.path, why=why)
    for index in unused_overrides(network, pending):
        context.warn("override_unused", index=index)
    context.record.details.update(method=step.method, pattern=step.pattern.type, layers=len(along))
    if is_global(step):
        context.record.details["sparsity"] = target(step, step.schedule)
