"""The parts of a training of Keras networks.

After every optimiser step, within the traced function, they put right what the step must not have changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.compression import training_parts

__all__ = ["TrainingPart"]


class TrainingPart(training_parts.TrainingPart):
    """One that does nothing; parts override what they need.

    `callbacks` are Keras callbacks, called before an epoch is measured. `state` are the variables beside the
    model's weights that a training needs to go on where it was.
    """

    @property
    def callbacks(self) -> Sequence[Any]:
        return ()

    @property
    def state(self) -> Sequence[Any]:
        return ()

    def after_step(self) -> None:
        """Operations to follow the optimiser's update. Called while a step is traced: once, in a graph."""
