"""Weight clustering while a training runs, zeros kept."""

from __future__ import annotations

from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.training_parts import TrainingPart
from tasks.compression.context import Context

__all__ = ["Projection"]


class Projection(TrainingPart):
    """Carries out the pending cluster and prune steps, and keeps the values and zeros that are there."""

    def __init__(self, network: Network, steps: int, context: Context) -> None:
        self._network = network
