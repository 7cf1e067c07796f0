"""Pruning schedules under TFMOT's own interface: when masks are updated, and to which sparsity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featherweight.spec import ConstantSparsity, CustomSchedule, PruningSchedule
from tasks.compression.backends.tensorflow._framework import sparsity, tf

__all__ = ["KeptMask", "PointSchedule", "StepSchedule", "step_schedule"]


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
        self.end_step = schedule.end_step
        self._floor = floor

    def __call__(self, step: Any) -> tuple[Any, Any]:
        due, wanted = self._schedule(step)
        ends = tf.logical_or(tf.equal(step, self._first), tf.equal(step, self.end_step))
        return tf.logical_or(due, ends), tf.maximum(wanted, self._floor)

    def get_config(self) -> dict[str, Any]:
        return {
            "class_name": type(self).__name__,
            "config": {"schedule": self._schedule.get_config(), "floor": self._floor},
        }


class PointSchedule(sparsity.PruningSchedule):  # type: ignore[misc]
    """Through `points` (step, sparsity) of rising steps: the first's sparsity before it, the last's after it.

    Masks are updated at every point and, until the last, every `frequency` steps.
    """

    def __init__(self, points: Sequence[tuple[int, float]], *, linear: bool, frequency: int) -> None:
        self._points = list(points)
        self._linear = linear
        self._frequency = frequency
        self.begin_step = 0
        self.end_step = self._points[-1][0]

    def __call__(self, step: Any) -> tuple[Any, Any]:
        places = tf.constant([place for place, _ in self._points], tf.int64)
        values = tf.constant([value for _, value in self._points], tf.float32)
        now, last = tf.cast(step, tf.int64), len(self._points) - 1
        before = tf.clip_by_value(tf.searchsorted(places, [now], side="right")[0] - 1, 0, last)
        after = tf.minimum(before + 1, last)
        way = tf.maximum(places[after] - places[before], 1)
        gone = tf.clip_by_value((now - places[before]) / way, 0.0, 1.0) if self._linear else 0.0
        wanted = values[before] + tf.cast(gone, tf.float32) * (values[after] - values[before])
        due = self._should_prune_in_step(step, self.begin_step, self.end_step, self._frequency)
        due = tf.logical_or(due, tf.reduce_any(tf.equal(places, now)))
        return due, wanted

    def get_config(self) -> dict[str, Any]:
        config = {"points": self._points, "linear": self._linear, "frequency": self._frequency}
        return {"class_name": type(self).__name__, "config": config}


class KeptMask(sparsity.PruningSchedule):  # type: ignore[misc]
    """Never updates the masks: what they hold at the beginning stays zero."""

    def __call__(self, step: Any) -> tuple[Any, Any]:
        return tf.constant(False), tf.constant(0.0, tf.float32)

    def get_config(self) -> dict[str, Any]:
        return {"class_name": type(self).__name__, "config": {}}


def step_schedule(schedule: PruningSchedule, floor: float) -> StepSchedule:
    """TFMOT's schedule of a resolved one of the contract."""
    if isinstance(schedule, CustomSchedule):
        return StepSchedule(_through_points(schedule), floor)
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


def _through_points(schedule: CustomSchedule) -> PointSchedule:
    points = [(point.step, point.sparsity) for point in schedule.points if point.step is not None]
    return PointSchedule(points, linear=schedule.interpolation == "linear", frequency=int(schedule.frequency))
