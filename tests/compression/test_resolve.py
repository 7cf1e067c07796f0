from __future__ import annotations

import pytest

from featherweight.spec import CompressionSpec, Finetune, PolynomialDecay
from tasks.compression import CompressionError
from tasks.compression.resolve import optimiser_steps, resolve_schedule
from tasks.compression.waiting import carrier


def test_auto_schedule_spans_the_training_as_the_tutorials_compute_it() -> None:
    # 60,000 samples less a tenth for validation, batches of 128, two epochs.
    steps = optimiser_steps(54_000, Finetune(technique="finetune", epochs=2, batch_size=128))
    schedule = resolve_schedule(PolynomialDecay(), steps, "")
    assert (steps, schedule.begin_step, schedule.end_step, schedule.frequency) == (844, 0, 844, 42)


@pytest.mark.parametrize(("steps", "frequency"), [(10, 1), (58, 2), (400, 20), (10_000, 100)])
def test_auto_frequency_is_a_twentieth_of_the_way_at_most_100(steps: int, frequency: int) -> None:
    assert resolve_schedule(PolynomialDecay(), steps, "").frequency == frequency


def test_values_given_are_kept() -> None:
    schedule = resolve_schedule(PolynomialDecay(begin_step=3, end_step=30, frequency=7), 58, "")
    assert (schedule.begin_step, schedule.end_step, schedule.frequency) == (3, 30, 7)


def test_schedule_that_begins_after_the_training_is_refused_at_its_place() -> None:
    with pytest.raises(CompressionError) as caught:
        resolve_schedule(PolynomialDecay(begin_step=100), 58, "/steps/0/schedule")
    assert caught.value.code == "invalid_request"
    assert caught.value.pointer == "/steps/0/schedule/begin_step"


def test_prune_is_carried_out_by_the_finetune_after_the_prunes_that_follow_it() -> None:
    prune, train = {"technique": "prune"}, {"technique": "finetune"}
    steps = CompressionSpec.model_validate(
        {"steps": [prune, prune, train, prune, {"technique": "quantize"}]}
    ).steps
    assert carrier(steps, 0) is steps[2]
    assert carrier(steps, 1) is steps[2]
    assert carrier(steps, 3) is None
