"""The learning rate over a training: constant, cosine or in steps, after a linear warm-up."""

from __future__ import annotations

from typing import Any

from featherweight.spec import ConstantRate, CosineRate, Distill, Finetune, StepRate
from tasks.compression.backends.tensorflow._framework import keras, tf

__all__ = ["Rate", "learning_rate", "rate_at"]


class Rate(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """The rate of optimiser step t, counted from 0, in a training of `per_epoch` steps an epoch.

    The first `warmup_steps` rise in equal parts to the full rate (Goyal et al. 2017). After them a
    cosine falls from step to step to `final_factor` of it, reached where the training ends (Loshchilov
    & Hutter 2017, equation 5, one cycle); steps are taken between epochs.
    """

    def __init__(self, step: Finetune | Distill, per_epoch: int) -> None:
        self._peak = step.learning_rate
        self._schedule = step.learning_rate_schedule
        self._per_epoch = per_epoch
        self._total = per_epoch * step.epochs

    def __call__(self, step: Any) -> Any:
        done = tf.cast(step, tf.float32)
        warm_up = self._schedule.warmup_steps
        rate = self._peak * self._factor(done)
        if not warm_up:
            return rate
        return tf.where(done < warm_up, self._peak * (done + 1.0) / warm_up, rate)

    def _factor(self, done: Any) -> Any:
        schedule = self._schedule
        if isinstance(schedule, CosineRate):
            falling = max(1, self._total - schedule.warmup_steps)
            way = tf.clip_by_value((done - schedule.warmup_steps) / falling, 0.0, 1.0)
            half = 0.5 * (1.0 + tf.cos(3.141592653589793 * way))
            return schedule.final_factor + (1.0 - schedule.final_factor) * half
        if isinstance(schedule, StepRate):
            return tf.pow(schedule.factor, tf.floor(done / (self._per_epoch * schedule.every_epochs)))
        return tf.ones_like(done)

    def get_config(self) -> dict[str, Any]:
        return {"learning_rate": self._peak, "schedule": self._schedule.model_dump(mode="json")}


def learning_rate(step: Finetune | Distill, per_epoch: int) -> float | Rate:
    """What an optimiser takes: a plain number where the rate never changes."""
    schedule = step.learning_rate_schedule
    if isinstance(schedule, ConstantRate) and not schedule.warmup_steps:
        return step.learning_rate
    return Rate(step, per_epoch)


def rate_at(rate: float | Rate, step: int) -> float:
    """The rate of one step, counted from 0."""
    return float(rate(step)) if isinstance(rate, Rate) else rate
