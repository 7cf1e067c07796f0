"""Pruning schedules under TFMOT's own interface: when masks are updated, and to which sparsity."""

from __future__ import annotations

from typing import Any

from featherweight.spec import ConstantSparsity, PruningSchedule
from tasks.compression.backends.tensorflow._framework import sparsity, tf

__all__ = ["KeptMask", "StepSchedule", "step_schedule"]


class StepSchedule(sparsity.PruningSchedule):  # type: ignore[misc]
    """A schedule of TFMOT's that also updates the masks at its first and its last step, and never asks
    for less than `floor`.

    TFMOT updates where ``(step - begin) % frequency`` is 0, and counts from 1: begun at 0, it first
    prunes after `frequency` steps, and stops short of the final sparsity when the last step is no
    multiple. The floor is the share of zeros a layer already has.
    """

    def __init__(self, schedule: Any, floor: float = 0.0) -> None:
        self._schedule = schedule
        self._first = max(1, schedule.begin_step)
        self._last = schedule.end_step
        self._floor = floor

    def __call__(self, step: Any) -> tuple[Any, Any]:
        due, wanted = self._schedule(step)
        ends = tf.logical_or(tf.equal(step, self._first), tf.equal(step, self._last))
        return tf.logical_or(due, ends), tf.maximum(wanted, self._floor)

    def get_config(self) -> dict[str, Any]:
        return {
            "class_name": type(self).__name__,
            "config": {"schedule": self._schedule.get_config(), "floor": self._floor},
        }


class KeptMask(sparsity.PruningSchedule):  # type: ignore[misc]
    """Never updates the masks: what they hold at the beginning stays zero."""

    def __call__(self, step: Any) -> tuple[Any, Any]:
        return tf.constant(False), tf.constant(0.0, tf.float32)

    def get_config(self) -> dict[str, Any]:
        return {"class_name": type(self).__name__, "config": {}}


def step_schedule(schedule: PruningSchedule, floor: float) -> StepSchedule:
    """TFMOT's schedule of a resolved one of the contract."""
    steps = {
        "begin_step": schedule.begin_step,
        "end_step": schedule.end_step,
        "frequency": schedule.frequency,
    }
    if isinstance(schedule, ConstantSparsity):
        return StepSchedule(sparsity.ConstantSparsity(schedule.target_sparsity, **steps), floor)
    decay = sparsity.PolynomialDecay(
        schedule.initial_sparsity, schedule.final_sparsity, power=schedule.power, **steps
    )
    return StepSchedule(decay, floor)
