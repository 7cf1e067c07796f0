"""Weight clustering, as `tasks.compression.cluster_step` carries it out."""

from __future__ import annotations

from featherweight.spec import Cluster
from tasks.compression import cluster_step
from tasks.compression.backends.tensorflow.layers import LAYERS
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.weights import WEIGHTS
from tasks.compression.context import Context

__all__ = ["check", "cluster"]


def check(network: Network, step: Cluster, pointer: str) -> None:
    """CompressionError as cluster_step.check."""
    cluster_step.check(network.model, step, pointer, LAYERS)


def cluster(network: Network, step: Cluster, context: Context) -> Network:
    """CompressionError as cluster_step.cluster."""
    return cluster_step.cluster(network, step, context, WEIGHTS)
