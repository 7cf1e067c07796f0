"""Which layers a cluster step applies to, with how many values, and why not to others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from featherweight.spec import Cluster
from tasks.compression.clusterability import Request, no_sharing
from tasks.compression.layers import Layers, Placed
from tasks.compression.overrides import first_matches, unused
from tasks.compression.pending import Pending, Sharing
from tasks.compression.underway import Underway

__all__ = ["clusterable", "requests", "unsupported", "unused_overrides"]


def clusterable(model: Any, pending: Pending[Cluster], layers: Layers) -> dict[str, int]:
    """The layers that a cluster step selects and can change, with the values for each: those of the first
    override that matches, else the step's. CompressionError layer_not_found."""
    step, found = pending.step, _overridden(model, pending, layers)
    return {
        place.path: step.overrides[found[place.path]].clusters if place.path in found else step.clusters
        for place in _selected(model, pending, layers)
        if layers.kernels(place.layer)
    }


def requests(network: Underway, layers: Layers) -> dict[str, Request]:
    """What all that waits asks of each layer; of two steps that select it the later counts."""
    found = {}
    for pending in network.waiting(Cluster):
        step = pending.step
        for path, clusters in clusterable(network.model, pending, layers).items():
            found[path] = Request(Sharing(clusters, step.per_channel), step.initialization, step.begin)
    return found


def unsupported(model: Any, pending: Pending[Cluster], layers: Layers) -> Iterator[tuple[Placed, str]]:
    """Selected layers with weights worth sharing that cannot be, and why. Vectors (biases, the statistics of
    a normalisation) are never shared and do not count."""
    for place in _selected(model, pending, layers):
        if not layers.kernels(place.layer) and layers.has_matrices(place.layer):
            yield place, no_sharing(layers.kind(place.layer))


def unused_overrides(model: Any, pending: Pending[Cluster], layers: Layers) -> list[int]:
    """The overrides none of whose layers is clusterable, or not without an earlier override for it."""
    changed = clusterable(model, pending, layers)
    return unused(pending.step.overrides, _overridden(model, pending, layers), changed)


def _selected(model: Any, pending: Pending[Cluster], layers: Layers) -> Sequence[Placed]:
    return layers.select(model, pending.step.layers, f"{pending.pointer}/layers")


def _overridden(model: Any, pending: Pending[Cluster], layers: Layers) -> Mapping[str, int]:
    return first_matches(pending.step.overrides, pending.pointer, partial(layers.select, model))
