"""Structured pruning of PyTorch networks in rounds."""

from __future__ import annotations

from collections.abc import Callable

from tasks.compression import channel_rounds
from tasks.compression.backends.torch.channel_surgery import SURGERY
from tasks.compression.backends.torch.network import Network
from tasks.compression.context import Context
from tasks.compression.waiting import TrainingStep

__all__ = ["train_in_rounds"]

Train = Callable[[Network, TrainingStep, Context], Network]


def train_in_rounds(network: Network, step: TrainingStep, context: Context, train: Train) -> Network:
    """CompressionError as channel_rounds.train_in_rounds."""
    trained: Network = channel_rounds.train_in_rounds(network, step, context, train, SURGERY)
    return trained
