"""The learning rate over a training: constant, cosine or in steps, after a linear warm-up."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from featherweight.spec import ConstantRate, CosineRate, Distill, Finetune, StepRate

__all__ = ["NUMPY", "Arithmetic", "Rate", "changes"]

_PI = 3.141592653589793


class Arithmetic(NamedTuple):
    """What a rate is computed with: a framework's own functions, where it is part of a traced step."""

    float32: Any
    where: Any
    clip: Any
    cos: Any
    floor: Any
    power: Any


NUMPY = Arithmetic(np.float32, np.where, np.clip, np.cos, np.floor, np.power)


class Rate:
    """The rate of optimiser step t, counted from 0, in a training of `per_epoch` steps an epoch.

    The first `warmup_steps` rise in equal parts to the full rate (Goyal et al. 2017). After them a
    cosine falls from step to step to `final_factor` of it, reached where the training ends (Loshchilov
    & Hutter 2017, equation 5, one cycle); steps are taken between epochs. Computed in float32.
    """

    def __init__(self, step: Finetune | Distill, per_epoch: int) -> None:
        self._constant = not changes(step)
        self._peak = step.learning_rate
        self._schedule = step.learning_rate_schedule
        self._per_epoch = per_epoch
        self._total = per_epoch * step.epochs

    def __call__(self, step: int) -> float:
        return self._peak if self._constant else float(self.within(NUMPY, step))

    def within(self, arithmetic: Arithmetic, step: Any) -> Any:
        """The same as a number of `arithmetic`."""
        done = arithmetic.float32(step)
        warm_up = self._schedule.warmup_steps
        rate = self._peak * self._factor(arithmetic, done)
        if not warm_up:
            return rate
        return arithmetic.where(done < warm_up, self._peak * (done + 1.0) / warm_up, rate)

    def _factor(self, arithmetic: Arithmetic, done: Any) -> Any:
        schedule = self._schedule
        if isinstance(schedule, CosineRate):
            falling = max(1, self._total - schedule.warmup_steps)
            way = arithmetic.clip((done - schedule.warmup_steps) / falling, 0.0, 1.0)
            half = 0.5 * (1.0 + arithmetic.cos(_PI * way))
            return schedule.final_factor + (1.0 - schedule.final_factor) * half
        if isinstance(schedule, StepRate):
            falls = arithmetic.floor(done / (self._per_epoch * schedule.every_epochs))
            return arithmetic.power(schedule.factor, falls)
        return 0.0 * done + 1.0


def changes(step: Finetune | Distill) -> bool:
    """Whether the rate is another one at some steps."""
    schedule = step.learning_rate_schedule
    return not isinstance(schedule, ConstantRate) or bool(schedule.warmup_steps)
