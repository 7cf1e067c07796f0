from __future__ import annotations

from featherweight.events import Event, ProgressEvent, StageEvent, WarningEvent
from tasks.compression.progress import Progress
from tasks.compression.remarks import remark


class FakeClock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_fraction_never_falls_and_ends_at_one() -> None:
    said: list[Event] = []
    clock = FakeClock()
    progress = Progress(said.append, [("load", 1), ("train", 3)], clock)
    progress.begin()
    progress.begin()
    for step in range(1, 101):
        clock.now += 0.05
        progress.advance(step, 100, {"loss": 1.0})
    progress.finish()
    fractions = [event.fraction for event in said if isinstance(event, ProgressEvent)]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert [event.stage for event in said if isinstance(event, StageEvent)] == ["load", "train"]


def test_portions_of_a_stage_add_up_to_it() -> None:
    said: list[Event] = []
    clock = FakeClock()
    progress = Progress(said.append, [("load", 1), ("train", 3)], clock)
    progress.begin()
    progress.begin()
    said.clear()
    for number in (1, 2):
        with progress.portion(number, 2):
            for step in (5, 10):
                clock.now += 1
                progress.advance(step, 10)
    told = [event for event in said if isinstance(event, ProgressEvent)]
    assert [event.fraction for event in told] == [0.4375, 0.625, 0.8125, 1.0]
    assert [(event.step, event.total) for event in told] == [(5, 20), (10, 20), (15, 20), (20, 20)]
    assert [event.eta_s for event in told] == [3, 2, 1, 0]


def test_at_most_four_reports_a_second() -> None:
    said: list[Event] = []
    clock = FakeClock()
    progress = Progress(said.append, [("train", 1)], clock)
    progress.begin()
    said.clear()
    for step in range(1, 1000):
        clock.now += 0.001
        progress.advance(step, 1000)
    assert 3 <= len(said) <= 4
    last = said[-1]
    assert isinstance(last, ProgressEvent)
    assert last.eta_s is not None


def test_steps_of_an_earlier_attempt_are_not_taken_for_fast_ones() -> None:
    said: list[Event] = []
    clock = FakeClock()
    progress = Progress(said.append, [("train", 1)], clock)
    progress.begin()
    progress.resume(80)
    clock.now += 5.0
    progress.advance(90, 100)
    last = said[-1]
    assert isinstance(last, ProgressEvent)
    assert (last.fraction, last.eta_s) == (0.9, 5.0)


def test_same_warning_is_said_once() -> None:
    said: list[Event] = []
    progress = Progress(said.append, [("load", 1)])
    for _ in range(2):
        progress.warn(remark("calibration_small", count=3, wanted=100))
    assert len([event for event in said if isinstance(event, WarningEvent)]) == 1
    assert progress.warnings[0].code == "calibration_small"
