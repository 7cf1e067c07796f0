"""How sparsity rises while training: constant, polynomial, or through given points.

Steps are optimiser steps (batches). Masks are updated at a schedule's first and last step and every
`frequency` steps in between; ``auto`` is a twentieth of the way, at most 100.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

from pydantic import Field, model_validator

from featherweight.techniques.parts import AUTO, Auto, Frequency, Part, Sparsity, StepNumber

__all__ = ["ConstantSparsity", "CustomSchedule", "PolynomialDecay", "PruningSchedule", "SchedulePoint"]


class ConstantSparsity(Part):
    """The same sparsity from `begin_step` on.

    ``auto`` for `begin_step` is 0, for `end_step` the last step of the training that carries the
    schedule out.
    """

    type: Literal["constant_sparsity"] = "constant_sparsity"
    target_sparsity: Sparsity = 0.5
    begin_step: StepNumber | Auto = AUTO
    end_step: StepNumber | Auto = AUTO
    frequency: Frequency | Auto = AUTO

    @property
    def final_sparsity(self) -> float:
        return self.target_sparsity

    @model_validator(mode="after")
    def _steps_in_order(self) -> ConstantSparsity:
        _check_order(self.begin_step, self.end_step)
        return self


class PolynomialDecay(Part):
    """Sparsity rising from `initial_sparsity` to `final_sparsity` (Zhu & Gupta 2017, equation 1).

    At step t between `begin_step` and `end_step`, with u = (t - begin) / (end - begin):
    ``final + (initial - final) * (1 - u) ** power``. ``auto`` for `begin_step` is 0, for
    `end_step` the last step of the training (``ceil(training samples / batch size) * epochs``).
    """

    type: Literal["polynomial_decay"] = "polynomial_decay"
    initial_sparsity: Sparsity = 0.5
    final_sparsity: Sparsity = 0.8
    begin_step: StepNumber | Auto = AUTO
    end_step: StepNumber | Auto = AUTO
    power: Annotated[float, Field(gt=0, le=20)] = 3.0
    frequency: Frequency | Auto = AUTO

    @model_validator(mode="after")
    def _steps_in_order(self) -> PolynomialDecay:
        _check_order(self.begin_step, self.end_step)
        return self


class SchedulePoint(Part):
    """A sparsity at a place in training: `step` in optimiser steps, or `fraction` of all of them."""

    sparsity: Sparsity
    step: StepNumber | None = None
    fraction: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def _one_place(self) -> SchedulePoint:
        if (self.step is None) == (self.fraction is None):
            raise ValueError("give either step or fraction")
        return self


class CustomSchedule(Part):
    """Sparsity through given points: that of the first before it, that of the last after it.

    All points are placed by `step` or all by `fraction`, in rising order. ``linear`` interpolates
    between them, ``step`` holds each until the next.
    """

    type: Literal["custom"]
    points: Annotated[tuple[SchedulePoint, ...], Field(min_length=1, max_length=200)]
    interpolation: Literal["linear", "step"] = "linear"
    frequency: Frequency | Auto = AUTO

    @property
    def final_sparsity(self) -> float:
        return self.points[-1].sparsity

    @model_validator(mode="after")
    def _rising(self) -> CustomSchedule:
        for name in ("step", "fraction"):
            places = [getattr(point, name) for point in self.points]
            if None in places:
                continue
            if any(early >= late for early, late in itertools.pairwise(places)):
                raise ValueError(f"the points' {name} must rise from one to the next")
            return self
        raise ValueError("place all points by step or all by fraction")


PruningSchedule = Annotated[ConstantSparsity | PolynomialDecay | CustomSchedule, Field(discriminator="type")]


def _check_order(begin: int | str, end: int | str) -> None:
    if isinstance(begin, int) and isinstance(end, int) and begin >= end:
        raise ValueError(f"end_step ({end}) must be greater than begin_step ({begin})")
