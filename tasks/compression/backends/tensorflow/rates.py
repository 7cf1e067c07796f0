"""The learning rate of a training as Keras' optimisers take it, computed within the traced step."""

from __future__ import annotations

from typing import Any

from featherweight.spec import Distill, Finetune
from tasks.compression.backends.tensorflow._framework import keras, tf
from tasks.compression.rates import Arithmetic, Rate, changes

__all__ = ["learning_rate"]

_TENSORS = Arithmetic(
    lambda step: tf.cast(step, tf.float32), tf.where, tf.clip_by_value, tf.cos, tf.floor, tf.pow
)


class _Scheduled(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    def __init__(self, step: Finetune | Distill, per_epoch: int) -> None:
        self._step = step
        self._rate = Rate(step, per_epoch)

    def __call__(self, step: Any) -> Any:
        return self._rate.within(_TENSORS, step)

    def get_config(self) -> dict[str, Any]:
        schedule = self._step.learning_rate_schedule.model_dump(mode="json")
        return {"learning_rate": self._step.learning_rate, "schedule": schedule}


def learning_rate(step: Finetune | Distill, per_epoch: int) -> float | _Scheduled:
    """What an optimiser takes: a plain number where the rate never changes."""
    return _Scheduled(step, per_epoch) if changes(step) else step.learning_rate
