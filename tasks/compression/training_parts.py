"""What waits for a training, as parts that take part in it, whatever the framework.

A training asks every part, in order, to wrap the model; then to begin, on the model so wrapped; what they do
about each optimiser step is between them and the framework's own loop; in reverse order to take its wrapping
off; and at last to say what came of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from featherweight.spec import Cluster, Prune, QuantizeAware
from tasks.compression.context import Context
from tasks.compression.errors import CompressionError
from tasks.compression.pending import Pending
from tasks.compression.underway import Underway, UnderwayT

__all__ = ["Archived", "TrainingPart", "parts_of", "sparsity_of", "train"]


class TrainingPart:
    """One that does nothing; parts override what they need.

    `settled` is the optimiser step after which the part has its final effect on the weights: epochs that end
    before it are not chosen from. Steps count from 1.
    """

    settled: int = 0

    def wrap(self, model: Any) -> Any:
        """A model to train in the place of `model`, sharing its weights."""
        return model

    def begin(self, model: Any) -> None:
        """`model` is what will be trained, wrapped by all parts; its weights may be changed before it is."""

    def sparsity(self) -> float | None:
        """The share of zeros among the weights that the part holds masks for, None when it holds none."""
        return None

    def summary(self) -> Mapping[str, float]:
        """Values to be shown by epoch, by their names in TensorBoard."""
        return {}

    def unwrap(self, model: Any) -> Any:
        """The trained `model` without what `wrap` put around it."""
        return model

    def outcome(self, network: Any, taken: int, context: Context) -> Any:
        """`network`, the trained model in it, as it is after `taken` optimiser steps: what is noted for later
        steps is added, what the caller should know is said."""
        return network


PartT = TypeVar("PartT", bound=TrainingPart)


class Archived(Protocol):
    """The summaries of a training."""

    def archive(self) -> bytes: ...


ArchivedT = TypeVar("ArchivedT", bound=Archived)


def sparsity_of(parts: Sequence[TrainingPart]) -> float | None:
    """That of the first part that holds masks; None where none does."""
    shares = (part.sparsity() for part in parts)
    return next((share for share in shares if share is not None), None)


def parts_of(
    network: Underway,
    *,
    rounding: Callable[[Pending[QuantizeAware]], Sequence[PartT]],
    projection: Callable[[], PartT],
    masking: Callable[[], PartT],
) -> Sequence[PartT]:
    """What takes part in the training of `network`: for what waits, and for what is to stay."""
    waiting = network.waiting(QuantizeAware)
    if waiting:
        return rounding(waiting[-1])
    if network.shared or network.waiting(Cluster):
        return [projection()]
    return [masking()]


def train(
    network: UnderwayT,
    parts: Sequence[PartT],
    context: Context,
    fit: Callable[[Any, ArchivedT | None], int],
    summaries: Callable[[], AbstractContextManager[ArchivedT]],
) -> UnderwayT:
    """The network trained, with nothing pending, and without what `parts` put around its model.

    `fit` trains the model it is given, tells the summaries where there are any, and returns the optimiser
    steps taken. What it raises goes through; what a CompressionError has kept is unwrapped as well.
    """
    model = network.model
    for part in parts:
        model = part.wrap(model)
    for part in parts:
        part.begin(model)
    asked = any(item.step.summaries for item in network.waiting(Prune))
    told: AbstractContextManager[ArchivedT | None] = summaries() if asked else nullcontext()
    with told as archived:
        try:
            taken = fit(model, archived)
        except CompressionError as error:
            if error.kept is not None:
                last_good = replace(network, model=_unwrapped(model, parts), pending=())
                error.kept = replace(error.kept, network=last_good)
            raise
        tensorboard = network.tensorboard if archived is None else archived.archive()
    trained = replace(network, model=_unwrapped(model, parts), pending=(), tensorboard=tensorboard)
    for part in parts:
        trained = part.outcome(trained, taken, context)
    return trained


def _unwrapped(model: Any, parts: Sequence[TrainingPart]) -> Any:
    for part in reversed(parts):
        model = part.unwrap(model)
    return model
