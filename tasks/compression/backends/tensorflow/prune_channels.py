"""Structured pruning of Keras networks, as `tasks.compression.channel_step` carries it out."""

from __future__ import annotations

from featherweight.spec import PruneChannels
from tasks.compression import channel_step
from tasks.compression.backends.tensorflow.channel_surgery import SURGERY
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.context import Context

__all__ = ["check", "prune_channels"]


def check(network: Network, step: PruneChannels, pointer: str) -> None:
    """CompressionError as channel_step.check."""
    channel_step.check(network, step, pointer, SURGERY)


def prune_channels(network: Network, step: PruneChannels, context: Context) -> Network:
    """CompressionError as channel_step.prune_channels."""
    return channel_step.prune_channels(network, step, context, SURGERY)
