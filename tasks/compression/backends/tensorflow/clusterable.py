"""Which layers a cluster step applies to, with how many values, and why not to others."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featherweight.spec import Cluster
from tasks.compression.backends.tensorflow.clusterability import no_sharing
from tasks.compression.backends.tensorflow.codebook import Initialization
from tasks.compression.backends.tensorflow.layers import Placed, kernels, select
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.context import Context
from tasks.compression.pending import Pending, Sharing

__all__ = [
    "Request",
    "chance",
    "clusterable",
    "requests",
    "unsupported",
    "unused_overrides",
    "warn_if_nothing_shared",
]


@dataclass(frozen=True)
class Request:
    """What pending cluster steps ask of a layer."""

    sharing: Sharing
    initialization: Initialization
    begin: float


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


def unsupported(model: Any, pending: Pending[Cluster]) -> Iterator[tuple[Placed, str]]:
    """Selected layers with weights worth sharing that cannot be, and why. Vectors (biases, the statistics of
    a normalisation) are never shared and do not count."""
    for place in _selected(model, pending):
        if not kernels(place.layer) and any(len(weight.shape) > 1 for weight in place.layer.weights):
            yield place, no_sharing(type(place.layer).__name__)


def chance(seed: int, path: str, kernel: int) -> tuple[int, ...]:
    """The seed of what is drawn for one kernel of a layer."""
    return seed, zlib.crc32(path.encode()), kernel


def warn_if_nothing_shared(path: str, counts: Sequence[int], sharing: Sharing, context: Context) -> None:
    """`counts` are those of the distinct weights that share values, the most of any row, of each kernel."""
    if max(counts) <= sharing.clusters:
        where = " in a channel" if sharing.per_channel else ""
        context.warn("nothing_shared", layer=path, count=max(counts), where=where, clusters=sharing.clusters)


def unused_overrides(network: Network, pending: Pending[Cluster]) -> list[int]:
    """The overrides none of whose layers is clusterable, or not without an earlier override for it."""
    changed = clusterable(network, pending)
    used = {index for path, index in _overridden(network.model, pending).items() if path in changed}
    return [index for index in range(len(pending.step.overrides)) if index not in used]


def _selected(model: Any, pending: Pending[Cluster]) -> list[Placed]:
    return select(model, pending.step.layers, f"{pending.pointer}/layers")


def _overridden(model: Any, pending: Pending[Cluster]) -> Mapping[str, int]:
    """The first override that matches each layer."""
    found: dict[str, int] = {}
    for index, override in enumerate(pending.step.overrides):
        for place in select(model, override.layers, f"{pending.pointer}/overrides/{index}/layers"):
            found.setdefault(place.path, index)
    return found
