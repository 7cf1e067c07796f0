"""Pruning of Keras networks, as `tasks.compression.prune_step` carries it out."""

from __future__ import annotations

from dataclasses import replace

from featherweight.spec import Prune, XnnpackLatency
from tasks.compression import prune_step
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.prunable import PRUNING, check_xnnpack
from tasks.compression.backends.tensorflow.weights import WEIGHTS
from tasks.compression.context import Context
from tasks.compression.pending import Pending
from tasks.compression.prunable import prunable

__all__ = ["check", "prune"]


def check(network: Network, step: Prune, pointer: str) -> None:
    """CompressionError as prune_step.check; layer_not_supported for a model that the pattern
    ``xnnpack_latency`` does nothing for."""
    if isinstance(step.pattern, XnnpackLatency):
        check_xnnpack(network.model, pointer)
    prune_step.check(network.model, step, pointer, PRUNING)


def prune(network: Network, step: Prune, context: Context) -> Network:
    """CompressionError as prune_step.prune."""
    sparse = isinstance(step.pattern, XnnpackLatency) and bool(
        prunable(network.model, Pending(step, context.pointer), PRUNING)
    )
    network = replace(network, sparse_kernels=network.sparse_kernels or sparse)
    return prune_step.prune(network, step, context, WEIGHTS)
