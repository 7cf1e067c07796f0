"""What waits for a training, as parts that take part in it.

A training asks every part, in order, to wrap the model; then to constrain the model so wrapped; after every
optimiser step, within the traced function, to put right what the step must not have changed; in reverse
order to take its wrapping off; and at last to say what came of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.context import Context

__all__ = ["TrainingPart"]


class TrainingPart:
    """One that does nothing; parts override what they need.

    `settled` is the optimiser step after which the part has its final effect on the weights: epochs that end
    before it are not chosen from. `callbacks` are Keras callbacks, called before an epoch is measured.
    `state` are the variables beside the model's weights that a training needs to go on where it was.
    """

    settled: int = 0

    @property
    def callbacks(self) -> Sequence[Any]:
        return ()

    @property
    def state(self) -> Sequence[Any]:
        return ()

    def wrap(self, model: Any) -> Any:
        """A model to train in the place of `model`, sharing its weights."""
        return model

    def constrain(self, model: Any) -> None:
        """`model` is what will be trained, wrapped by all parts; its weights may be changed before it is."""

    def after_step(self) -> None:
        """Operations to follow the optimiser's update. Called while a step is traced: once, in a graph."""

    def sparsity(self) -> float | None:
        """The share of zeros among the weights that the part holds masks for, None when it holds none."""
        return None

    def summary(self) -> Mapping[str, float]:
        """Values to be shown by epoch, by their names in TensorBoard."""
        return {}

    def unwrap(self, model: Any) -> Any:
        """The trained `model` without what `wrap` put around it."""
        return model

    def outcome(self, network: Network, taken: int, context: Context) -> Network:
        """`network`, with the trained model in it, as it is after `taken` optimiser steps: what is noted for
        later steps is added, what the caller should know is said."""
        return network
