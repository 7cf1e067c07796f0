from __future__ import annotations

from typing import Any

import pytest

from featherweight.spec import ConstantSparsity, CustomSchedule, PolynomialDecay
from tasks.compression.backends.tensorflow.schedule import step_schedule
from tasks.compression.mask_updates import sparsity_after, update_at
from tasks.compression.resolve import resolve_schedule


def custom(points: list[dict[str, float]], **values: Any) -> CustomSchedule:
    return CustomSchedule.model_validate({"type": "custom", "points": points, **values})


def updates(schedule: Any, steps: int) -> dict[int, float]:
    """The sparsity at each step in which masks are updated."""
    found = {step: schedule(step) for step in range(1, steps + 1)}
    return {step: round(float(wanted), 5) for step, (due, wanted) in found.items() if due}


def last_sparsity(schedule: Any, steps: int) -> float:
    """That of the last update in a training of `steps` steps; 0 when there is none."""
    answers = (schedule(step) for step in range(steps, 0, -1))
    return next((float(wanted) for due, wanted in answers if due), 0.0)


def test_points_given_by_fraction_become_steps() -> None:
    schedule = custom([{"fraction": 0, "sparsity": 0.1}, {"fraction": 0.5, "sparsity": 0.8}])
    resolved = resolve_schedule(schedule, 200, "")
    assert isinstance(resolved, CustomSchedule)
    assert [(point.step, point.sparsity) for point in resolved.points] == [(0, 0.1), (100, 0.8)]
    assert resolved.frequency == 5
    assert CustomSchedule.model_validate(resolved.model_dump()) == resolved


def test_of_points_that_fall_on_one_step_the_last_counts() -> None:
    schedule = custom([{"fraction": 0.5, "sparsity": 0.1}, {"fraction": 0.52, "sparsity": 0.8}])
    resolved = resolve_schedule(schedule, 10, "")
    assert isinstance(resolved, CustomSchedule)
    assert [(point.step, point.sparsity) for point in resolved.points] == [(5, 0.8)]


def test_linear_points_are_interpolated_and_each_is_an_update() -> None:
    points = [{"step": 2, "sparsity": 0.2}, {"step": 5, "sparsity": 0.5}, {"step": 9, "sparsity": 0.9}]
    schedule = step_schedule(custom(points, frequency=4), 0.0)
    assert updates(schedule, 15) == {1: 0.2, 2: 0.2, 4: 0.4, 5: 0.5, 8: 0.8, 9: 0.9}


def test_step_points_hold_until_the_next() -> None:
    points = [{"step": 2, "sparsity": 0.2}, {"step": 5, "sparsity": 0.5}]
    schedule = step_schedule(custom(points, interpolation="step", frequency=2), 0.0)
    assert updates(schedule, 9) == {1: 0.2, 2: 0.2, 4: 0.2, 5: 0.5}


def test_single_point_prunes_once_at_the_beginning_and_at_its_step() -> None:
    schedule = step_schedule(custom([{"step": 3, "sparsity": 0.6}], frequency=100), 0.0)
    assert updates(schedule, 9) == {1: 0.6, 3: 0.6}


def test_floor_is_never_undercut() -> None:
    points = [{"step": 1, "sparsity": 0.2}, {"step": 4, "sparsity": 0.5}]
    assert set(updates(step_schedule(custom(points, frequency=1), 0.4), 9).values()) == {0.4, 0.5}


@pytest.mark.parametrize(
    ("schedule", "steps", "reached"),
    [
        (PolynomialDecay(initial_sparsity=0, power=1, begin_step=0, end_step=100, frequency=10), 55, 0.4),
        (ConstantSparsity(begin_step=0, end_step=100, frequency=10), 55, 0.5),
        (ConstantSparsity(begin_step=60, end_step=100, frequency=10), 55, 0.0),
    ],
)
def test_sparsity_of_a_training_that_ends_first(schedule: Any, steps: int, reached: float) -> None:
    assert last_sparsity(step_schedule(schedule, 0.0), steps) == pytest.approx(reached)


@pytest.mark.parametrize(
    "schedule",
    [
        PolynomialDecay(initial_sparsity=0.1, final_sparsity=0.9, begin_step=0, end_step=47, frequency=7),
        PolynomialDecay(initial_sparsity=0.5, power=1, begin_step=5, end_step=30, frequency=4),
        ConstantSparsity(begin_step=0, end_step=40, frequency=6),
        ConstantSparsity(begin_step=3, end_step=20, frequency=100),
        custom(
            [{"step": 2, "sparsity": 0.2}, {"step": 5, "sparsity": 0.5}, {"step": 9, "sparsity": 0.9}],
            frequency=4,
        ),
        custom(
            [{"step": 2, "sparsity": 0.2}, {"step": 25, "sparsity": 0.5}], interpolation="step", frequency=7
        ),
        custom([{"step": 0, "sparsity": 0.2}], frequency=7),
        custom([{"step": 3, "sparsity": 0.6}], frequency=1),
    ],
)
def test_plain_numbers_are_those_of_tfmots_schedules(schedule: Any) -> None:
    plain = {step: update_at(schedule, step) for step in range(1, 61)}
    known = {step: round(wanted, 5) for step, wanted in plain.items() if wanted is not None}
    assert known == pytest.approx(updates(step_schedule(schedule, 0.0), 60), abs=2e-5)
    for steps in (1, 4, 20, 60):
        reached = sparsity_after(schedule, steps)[1]
        assert reached == pytest.approx(last_sparsity(step_schedule(schedule, 0.0), steps), abs=1e-6)
