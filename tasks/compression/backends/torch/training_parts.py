"""The parts of a training of PyTorch networks.

Before every optimiser step they change what is to change then, and after it put right what the step must not
have changed.
"""

from __future__ import annotations

from collections.abc import Mapping

from tasks.compression import training_parts
from tasks.compression.backends.torch._framework import torch

__all__ = ["State", "TrainingPart"]

State = Mapping[str, torch.Tensor | int | float | str]


class TrainingPart(training_parts.TrainingPart):
    """One that does nothing; parts override what they need."""

    def before_step(self, step: int) -> None:
        """Before the forward pass of an optimiser step."""

    def after_step(self, step: int) -> None:
        """After the optimiser's update."""

    def state_dict(self) -> State:
        """What a training needs to go on where it was, beside the model's weights and the optimiser's."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """Of what `state_dict` gave."""
