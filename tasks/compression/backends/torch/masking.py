"""Pruning while a training runs: the part of it that makes and keeps zeros."""

from __future__ import annotations

from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.training_parts import TrainingPart
from tasks.compression.context import Context

__all__ = ["Masking"]


class Masking(TrainingPart):
    """Carries out the pending prune steps and keeps the zeros that are there already."""

    def __init__(self, network: Network, steps: int, context: Context) -> None:
        self._network = network
