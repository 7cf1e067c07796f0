"""Weight clustering: at once, or noted down for the training that follows to carry out."""

from __future__ import annotations

from dataclasses import replace

from featherweight.spec import Cluster
from tasks.compression.backends.tensorflow.at_once import carry_out
from tasks.compression.backends.tensorflow.clusterability import refused
from tasks.compression.backends.tensorflow.clusterable import clusterable, unsupported, unused_overrides
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.context import Context
from tasks.compression.pending import Pending
from tasks.compression.waiting import waits
from tasks.compression.workspace import LayerNote

__all__ = ["check", "cluster"]


def check(network: Network, step: Cluster, pointer: str) -> None:
    """CompressionError layer_not_found; layer_not_supported where the step says ``error``."""
    pending = Pending(step, pointer)
    clusterable(network, pending)
    _refuse_layers(network, pending)


def cluster(network: Network, step: Cluster, context: Context) -> Network:
    """Share weights at once, or leave the step pending when training follows.

    CompressionError layer_not_supported for layers an earlier step changed, where this one says ``error``.
    """
    pending = Pending(step, context.pointer)
    _refuse_layers(network, pending)
    chosen = clusterable(network, pending)
    _note(network, pending, chosen, context)
    if chosen:
        network = replace(network, pending=(*network.pending, pending))
    return network if waits(step, context.following) else carry_out(network, context)


def _refuse_layers(network: Network, pending: Pending[Cluster]) -> None:
    if pending.step.on_unsupported != "error":
        return
    for place, why in unsupported(network.model, pending):
        raise refused(place.path, why, pending.pointer)


def _note(network: Network, pending: Pending[Cluster], chosen: dict[str, int], context: Context) -> None:
    step = pending.step
    for place, why in unsupported(network.model, pending):
        context.record.layers[place.path] = LayerNote(skipped=why)
        context.warn("layer_not_shared", layer=place.path, why=why)
    for index in unused_overrides(network, pending):
        context.warn("override_unused", index=index)
    context.record.details.update(
        clusters=step.clusters,
        initialization=step.initialization,
        per_channel=step.per_channel,
        begin=step.begin if waits(step, context.following) else None,
        layers=chosen,
    )
