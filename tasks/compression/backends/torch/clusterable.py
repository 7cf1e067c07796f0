"""Which layers a cluster step applies to, with how many values, and why not to others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from featherweight.spec import Cluster, LayerSelection
from tasks.compression.backends.torch._framework import fx
from tasks.compression.backends.torch.layers import Placed, kernels, select
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.prunable import kind_of
from tasks.compression.clusterability import Request, no_sharing
from tasks.compression.overrides import first_matches, unused
from tasks.compression.pending import Pending, Sharing

__all__ = ["clusterable", "requests", "unsupported", "unused_overrides"]


def clusterable(network: Network, pending: Pending[Cluster]) -> dict[str, int]:
    """The layers that a cluster step selects and can change, with the values for each: those of the first
    override that matches, else the step's. CompressionError layer_not_found."""
    step, found = pending.step, _overridden(network.model, pending)
    return {
        place.path: step.overrides[found[place.path]].clusters if place.path in found else step.clusters
        for place in _selected(network.model, pending)
        if kernels(place.layer)
    }


def requests(network: Network) -> dict[str, Request]:
    """What all that waits asks of each layer; of two steps that select it the later counts."""
    found = {}
    for pending in network.waiting(Cluster):
        step = pending.step
        for path, clusters in clusterable(network, pending).items():
            found[path] = Request(Sharing(clusters, step.per_channel), step.initialization, step.begin)
    return found


def unsupported(model: fx.GraphModule, pending: Pending[Cluster]) -> Iterator[tuple[Placed, str]]:
    """Selected layers with weights worth sharing that cannot be, and why. Vectors (biases, the statistics of
    a normalisation) are never shared and do not count."""
    for place in _selected(model, pending):
        if not kernels(place.layer) and any(weight.dim() > 1 for weight in place.layer.parameters()):
            yield place, no_sharing(kind_of(place.layer))


def unused_overrides(network: Network, pending: Pending[Cluster]) -> list[int]:
    """The overrides none of whose layers is clusterable, or not without an earlier override for it."""
    changed = clusterable(network, pending)
    return unused(pending.step.overrides, _overridden(network.model, pending), changed)


def _selected(model: fx.GraphModule, pending: Pending[Cluster]) -> list[Placed]:
    return select(model, pending.step.layers, f"{pending.pointer}/layers")


def _overridden(model: fx.GraphModule, pending: Pending[Cluster]) -> Mapping[str, int]:
    def chosen(selection: LayerSelection, pointer: str) -> list[Placed]:
        return select(model, selection, pointer)

    return first_matches(pending.step.overrides, pending.pointer, chosen)
