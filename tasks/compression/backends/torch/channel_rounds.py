"""Structured pruning in rounds: cut, train, cut again."""

from __future__ import annotations

from collections.abc import Callable

from tasks.compression.backends.torch.network import Network
from tasks.compression.context import Context
from tasks.compression.waiting import TrainingStep

__all__ = ["train_in_rounds"]

Train = Callable[[Network, TrainingStep, Context], Network]


def train_in_rounds(network: Network, step: TrainingStep, context: Context, train: Train) -> Network:
    """Carry out the pending prune_channels steps, with `train` after every round."""
    raise NotImplementedError
