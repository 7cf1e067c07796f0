"""How much work was done more than once because of faults.

Work is counted in units: one for each stage of a job that is no training (load, baseline, each step, convert,
evaluate, report), one for each epoch of training. What the attempts did that did not end their job is read
from the job's events, a stage that had only begun counted whole; what an attempt took over from one before
it does not count as done again: attempts say where they went on, the last one's report which steps it reused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featherweight.events import Event, ProgressEvent, StageEvent, StateEvent
from featherweight.eventstream import UnknownEvent
from featherweight.job import Attempt, Job
from featherweight.report import Report
from tests.chaos.orders import ideal_units

__all__ = ["Work", "work_of"]


@dataclass(frozen=True)
class Work:
    """Units: of the job undisturbed, and those done besides."""

    ideal: float
    repeated: float


def work_of(job: Job, events: Iterable[Event | UnknownEvent], report: Report) -> Work:
    spec, said = job.spec, _by_attempt(events)
    lost = sum(
        max(0.0, _units(events, spec) - _skipped(attempt, spec))
        for attempt, events in zip(job.attempts[:-1], said[:-1], strict=True)
    )
    return Work(ideal_units(spec), max(0.0, lost - _taken_over(report, spec)))


def _skipped(attempt: Attempt, spec: Mapping[str, Any]) -> float:
    """Units before the place where an attempt went on; they are told of as stages all the same."""
    place = getattr(attempt, "resumed_from", None)
    if place is None:
        return 0.0
    return float(sum(step.get("epochs", 1) for step in spec["steps"][: place.step])) + float(place.epoch)


def _by_attempt(events: Iterable[Event | UnknownEvent]) -> list[list[Event | UnknownEvent]]:
    attempts: list[list[Event | UnknownEvent]] = []
    for event in events:
        if isinstance(event, StateEvent) and event.state == "running":
            attempts.append([])
        elif attempts:
            attempts[-1].append(event)
    return attempts


def _units(attempt: Iterable[Event | UnknownEvent], spec: Mapping[str, Any]) -> float:
    """What an attempt did, as far as it told."""
    units: dict[int, float] = {}
    trainings = {2 + index: step["epochs"] for index, step in enumerate(spec["steps"]) if "epochs" in step}
    place = -1
    for event in attempt:
        if isinstance(event, StageEvent):
            place = event.index
            units[place] = 0.0 if place in trainings else 1.0
        elif isinstance(event, ProgressEvent) and place in trainings and event.step and event.total:
            units[place] = max(units[place], trainings[place] * event.step / event.total)
    return sum(units.values())


def _taken_over(report: Report, spec: Mapping[str, Any]) -> float:
    """What the attempt that made the report did not do itself."""
    return sum(_kept(step.reused, step.details, made) for step, made in _steps(report, spec))


def _kept(reused: bool, details: Mapping[str, Any], made: Mapping[str, Any]) -> float:
    whole = float(made.get("epochs", 1))
    return whole if reused else min(whole, float(details.get("resumed_from_epoch", 0)))


def _steps(report: Report, spec: Mapping[str, Any]) -> Sequence[tuple[Any, Mapping[str, Any]]]:
    return list(zip(report.steps, spec["steps"], strict=True))
