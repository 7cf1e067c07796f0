"""Ways to break a job off, and to see how it went on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featherweight.events import Event, LogEvent
from featherweight.report import StepReport
from tests.compression.networks import keras

__all__ = ["Broken", "StopAfter", "broken_off_at", "same_bits", "saved_weights", "told"]


class Broken(BaseException):
    """The process is gone; nobody handles it."""


def broken_off_at(words: str) -> Callable[[Event], None]:
    """What to give as `emit`, so that the job is broken off when its log says `words`."""

    def emit(event: Event) -> None:
        if isinstance(event, LogEvent) and words in event.message:
            raise Broken

    return emit


class StopAfter:
    """A stop that is asked for when it has been looked at so many times."""

    def __init__(self, looks: int) -> None:
        self._left = looks

    @property
    def requested(self) -> bool:
        self._left -= 1
        return self._left < 0

    @contextmanager
    def held(self) -> Iterator[None]:
        yield


def saved_weights(path: Path) -> list[npt.NDArray[Any]]:
    """Those of a delivered model, as plain Keras reads it."""
    weights: list[npt.NDArray[Any]] = keras().models.load_model(path, compile=False).get_weights()
    return weights


def same_bits(left: list[npt.NDArray[Any]], right: list[npt.NDArray[Any]]) -> bool:
    return len(left) == len(right) and all(
        one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
        for one, other in zip(left, right, strict=True)
    )


def told(step: StepReport) -> list[Any]:
    """What the report says of every epoch, but how long it took."""
    return [epoch.model_dump(exclude={"seconds"}) for epoch in step.epochs]


def finite(weights: list[npt.NDArray[Any]]) -> bool:
    return all(bool(np.isfinite(weight).all()) for weight in weights)
