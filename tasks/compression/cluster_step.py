"""A cluster step: weights that share values, at once, or noted down for the training that follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from featherweight.spec import Cluster
from tasks.compression.at_once import Weights, carry_out
from tasks.compression.clusterable import clusterable, unsupported, unused_overrides
from tasks.compression.context import Context
from tasks.compression.layers import Layers
from tasks.compression.pending import Pending
from tasks.compression.selection import refused
from tasks.compression.underway import Underway, UnderwayT
from tasks.compression.waiting import waits
from tasks.compression.workspace import LayerNote

__all__ = ["check", "cluster"]


def check(model: Any, step: Cluster, pointer: str, layers: Layers) -> None:
    """CompressionError layer_not_found; layer_not_supported where the step says ``error``."""
    pending = Pending(step, pointer)
    clusterable(model, pending, layers)
    _refuse_layers(model, pending, layers)


def cluster(network: UnderwayT, step: Cluster, context: Context, weights: Weights) -> UnderwayT:
    """Share weights at once, or leave the step pending when training follows.

    CompressionError layer_not_supported for layers an earlier step changed, where this one says ``error``.
    """
    pending = Pending(step, context.pointer)
    _refuse_layers(network.model, pending, weights.layers)
    chosen = clusterable(network.model, pending, weights.layers)
    _note(network, pending, chosen, context, weights.layers)
    if chosen:
        network = replace(network, pending=(*network.pending, pending))
    return network if waits(step, context.following) else carry_out(network, context, weights)


def _refuse_layers(model: Any, pending: Pending[Cluster], layers: Layers) -> None:
    if pending.step.on_unsupported != "error":
        return
    for place, why in unsupported(model, pending, layers):
        raise refused(place.path, "clustering", why, pending.pointer)


def _note(
    network: Underway, pending: Pending[Cluster], chosen: dict[str, int], context: Context, layers: Layers
) -> None:
    step = pending.step
    for place, why in unsupported(network.model, pending, layers):
        context.record.layers[place.path] = LayerNote(skipped=why)
        context.warn("layer_not_shared", layer=place.path, why=why)
    for index in unused_overrides(network.model, pending, layers):
        context.warn("override_unused", index=index)
    context.record.details.update(
        clusters=step.clusters,
        initialization=step.initialization,
        per_channel=step.per_channel,
        begin=step.begin if waits(step, context.following) else None,
        layers=chosen,
    )
