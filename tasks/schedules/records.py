"""What is stored about schedules and their runs: the public fields and the internal ones."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from featherweight.problem import Problem
from featherweight.report import Measurement
from featherweight.schedule import Schedule, ScheduleRequest, ScheduleRun

__all__ = ["GoodRun", "NewRun", "OutputMeasures", "RunRecord", "ScheduleRecord", "timed_item"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class OutputMeasures(_Part):
    """What a run's report says of one output, as far as runs are compared."""

    name: str
    gzip_bytes: int
    accuracy: Measurement | None = None


class GoodRun(_Part):
    """A run that later ones are compared with. `item` is the run's name within its schedule."""

    item: str
    outputs: list[OutputMeasures]


class ScheduleRecord(_Part):
    """A schedule as stored.

    Everything up to `cursor` has been worked off: fires up to then have their runs, looks at objects up to
    then have been taken; the next is due at `look_at`. `anchor` is where intervals count from. `version`
    changes with every change.
    """

    id: str
    project: str
    wanted: ScheduleRequest
    state: str
    anchor: datetime
    cursor: datetime
    look_at: datetime | None = None
    next_fire_at: datetime | None = None
    runs_made: int = 0
    good: GoodRun | None = None
    problem: Problem | None = None
    created_at: datetime
    updated_at: datetime
    version: str

    def public(self) -> Schedule:
        wanted = self.wanted
        return Schedule(
            id=self.id,
            name=wanted.name,
            state=self.state,
            trigger=wanted.trigger.model_dump(mode="json", exclude_none=True),
            job=wanted.job.model_dump(mode="json", exclude_none=True),
            catch_up=wanted.catch_up,
            catch_up_window_s=wanted.catch_up_window_s,
            overlap=wanted.overlap,
            regression=wanted.regression,
            metadata=wanted.metadata,
            ends_at=wanted.ends_at,
            max_runs=wanted.max_runs,
            next_fire_at=self.next_fire_at,
            runs_made=self.runs_made,
            last_good_run=f"{self.id}:{self.good.item}" if self.good else None,
            problem=self.problem,
            created_at=self.created_at,
            updated_at=self.updated_at,
        )


class RunRecord(ScheduleRun):
    """A run as stored. `item` is its name within the schedule, `sequence` its place among the runs. `outputs`
    are what it measured, if its report could be read; `good` says that later runs are compared with it."""

    project: str
    sequence: int = 0
    outputs: list[OutputMeasures] = Field(default_factory=list)
    good: bool = False

    @property
    def item(self) -> str:
        return self.id.partition(":")[2]

    def public(self) -> ScheduleRun:
        return ScheduleRun.model_validate(self.model_dump(include=set(ScheduleRun.model_fields)))


class NewRun(_Part):
    """A run that is to be made, unless one of this `item` has been: `fields` are those of RunRecord that are
    not its defaults. `counted` runs are those that ``max_runs`` is about."""

    item: str
    state: Literal["pending", "skipped"]
    counted: bool = True
    fields: dict[str, Any] = Field(default_factory=dict)


def timed_item(fire_time: datetime) -> str:
    return f"{fire_time.astimezone(UTC):%Y%m%dT%H%M%SZ}"
