"""What counts as work done twice."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from featherweight.events import Event, ProgressEvent, StageEvent, StateEvent
from featherweight.job import Attempt, Job
from featherweight.report import Report, StepReport
from tests.chaos.repeated import work_of

SPEC: dict[str, Any] = {
    "steps": [{"technique": "prune"}, {"technique": "finetune", "epochs": 4}, {"technique": "quantize"}]
}
STAGES = ("load", "baseline", "prune", "finetune", "quantize", "convert", "evaluate", "report")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def job(attempts: int) -> Job:
    tried = [Attempt(number=number, worker="w", started_at=NOW) for number in range(1, attempts + 1)]
    return Job(id="job_a", model_id="mdl_a", spec=SPEC, state="succeeded", created_at=NOW, attempts=tried)


def attempt(stages: int, *, epochs: float = 4) -> list[Event]:
    """The events of one that began so many stages, and trained so far."""
    said: list[Event] = [StateEvent(state="running")]
    for index, stage in enumerate(STAGES[:stages]):
        said.append(StageEvent(stage=stage, index=index, total=len(STAGES)))
        if stage == "finetune":
            said.append(ProgressEvent(stage=stage, fraction=0.5, step=round(10 * epochs), total=40))
    return said


def report(*, reused: int = 0, epoch: int = 0) -> Report:
    steps = [
        StepReport.model_construct(
            index=index,
            technique=step["technique"],
            reused=index < reused,
            details={"resumed_from_epoch": epoch} if index == reused and epoch else {},
        )
        for index, step in enumerate(SPEC["steps"])
    ]
    return Report.model_construct(steps=steps)


@pytest.mark.parametrize(
    ("attempts", "made", "repeated"),
    [
        ([attempt(8)], report(), 0),
        # Load, baseline, the cut; two and a half epochs.
        ([attempt(4, epochs=2.5), attempt(8)], report(), 5.5),
        # The cut and two epochs were taken over.
        ([attempt(4, epochs=2.5), attempt(8)], report(reused=1, epoch=2), 2.5),
        ([attempt(1), attempt(3), attempt(8)], report(), 4),
        # An attempt that was lost before it told of anything.
        ([attempt(0), attempt(8)], report(), 0),
        # All steps were there: convert, evaluate and what comes before the steps is done again.
        ([attempt(7), attempt(8)], report(reused=3), 4),
    ],
)
def test_work_besides_is_what_lost_attempts_did_and_nobody_took_over(
    attempts: list[list[Event]], made: Report, repeated: float
) -> None:
    found = work_of(job(len(attempts)), [event for said in attempts for event in said], made)
    assert (found.ideal, found.repeated) == (11, pytest.approx(repeated))
