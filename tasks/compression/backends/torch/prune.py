"""Pruning of PyTorch networks, as `tasks.compression.prune_step` carries it out."""

from __future__ import annotations

from featherweight.spec import Prune
from tasks.compression import prune_step
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.prunability import refuse_xnnpack
from tasks.compression.backends.torch.prunable import PRUNING
from tasks.compression.backends.torch.weights import WEIGHTS
from tasks.compression.context import Context

__all__ = ["check", "prune"]


def check(network: Network, step: Prune, pointer: str) -> None:
    """CompressionError as prune_step.check; layer_not_supported for the pattern ``xnnpack_latency``."""
    refuse_xnnpack(step, pointer)
    prune_step.check(network.model, step, pointer, PRUNING)


def prune(network: Network, step: Prune, context: Context) -> Network:
    """CompressionError as prune_step.prune."""
    return prune_step.prune(network, step, context, WEIGHTS)
