"""What waits for a training, as parts that take part in it.

A training asks every part, in order, to wrap the model; then to begin, on the model so wrapped; before every
optimiser step what it changes then, and after it to put right what the step must not have changed; in reverse
order to take its wrapping off; and at last to say what came of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from tasks.compression.backends.torch._framework import fx, torch
from tasks.compression.backends.torch.network import Network
from tasks.compression.context import Context

__all__ = ["State", "TrainingPart"]

State = Mapping[str, torch.Tensor | int | float | str]


class TrainingPart:
    """One that does nothing; parts override what they need.

    `settled` is the optimiser step after which the part has its final effect on the weights: epochs that end
    before it are not chosen from. Steps count from 1.
    """

    settled: int = 0

    def wrap(self, model: fx.GraphModule) -> fx.GraphModule:
        """A model to train in the place of `model`, sharing its weights."""
        return model

    def begin(self, model: fx.GraphModule) -> None:
        """`model` is what will be trained, wrapped by all parts; its weights may be changed before it is."""

    def before_step(self, step: int) -> None:
        """Before the forward pass of an optimiser step."""

    def after_step(self, step: int) -> None:
        """After the optimiser's update."""

    def sparsity(self) -> float | None:
        """The share of zeros among the weights that the part holds masks for, None when it holds none."""
        return None

    def summary(self) -> Mapping[str, float]:
        """Values to be shown by epoch, by their names in TensorBoard."""
        return {}

    def state_dict(self) -> State:
        """What a training needs to go on where it was, beside the model's weights and the optimiser's."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """Of what `state_dict` gave."""

    def unwrap(self, model: fx.GraphModule) -> fx.GraphModule:
        """The trained `model` without what `wrap` put around it."""
        return model

    def outcome(self, network: Network, taken: int, context: Context) -> Network:
        """`network`, with the trained model in it, as it is after `taken` optimiser steps: what is noted for
        later steps is added, what the caller should know is said."""
        return network
