"""A schedule: the job it makes again and again, when, and what comes of it.

A schedule fires at times (`CronTrigger`, `IntervalTrigger`) or when objects change
(`ObjectChangedTrigger`). What a fire makes is a run; the run has a job, or the reason why there is none.

pending ──> submitted ──> succeeded | failed | cancelled | expired     (as the job)
   │  └───> refused       the job could not be submitted
skipped                   the fire was missed, or the run before was still at work
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from featherweight.job import JobLimits, JobRequest, Metadata
from featherweight.problem import Problem
from featherweight.spec import CompressionSpec

__all__ = [
    "CatchUp",
    "CronTrigger",
    "InboxInput",
    "IntervalTrigger",
    "ObjectChangedTrigger",
    "Overlap",
    "Regression",
    "RegressionLimits",
    "RegressionReason",
    "Schedule",
    "ScheduleChange",
    "ScheduleRequest",
    "ScheduleRun",
    "ScheduledJob",
    "Trigger",
]

CatchUp = Literal["skip", "last", "all"]
"""What becomes of fires that were missed because nothing of the service was there to make them:

skip   they are skipped
last   the latest of them is made, the others are skipped
all    each of them is made
"""

Overlap = Literal["allow", "skip", "cancel_previous"]
"""What a fire does while a job of an earlier run has not ended:

allow            it makes its job all the same
skip             it makes none
cancel_previous  it asks for the earlier jobs to be cancelled, and makes its own
"""

RunState = Literal[
    "pending", "skipped", "refused", "submitted", "succeeded", "failed", "cancelled", "expired"
]

_YEAR_S = 366 * 86_400

ObjectName = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Id = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class CronTrigger(_Part):
    """Times by a cron expression of five fields (minute, hour, day, month, weekday), or six that begin with
    the second, in `timezone`, an IANA name.

    Where clocks are put forward, a fixed time that does not exist fires at the first moment after the gap;
    where they are put back, one that exists twice fires the first time. With ``*`` in the minute or hour,
    or six fields, it fires by the time that passes: neither less nor more often that night.
    """

    type: Literal["cron"] = "cron"
    expression: Annotated[str, StringConstraints(min_length=9, max_length=200)]
    timezone: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "UTC"


class IntervalTrigger(_Part):
    """Every so many seconds from when the schedule was made, or its trigger last changed."""

    type: Literal["interval"] = "interval"
    seconds: Annotated[int, Field(ge=1, le=_YEAR_S, strict=True)]


class ObjectChangedTrigger(_Part):
    """New or other bytes in the project's inbox: of the `object`, or of any whose name begins with `prefix`.

    Looked for every `poll_s` seconds. An object that was found changed counts as soon as it has stayed the
    same for one more look, and once for each ETag. What lies there at the first look is no change.
    """

    type: Literal["object_changed"] = "object_changed"
    object: ObjectName | None = None
    prefix: ObjectName | None = None
    poll_s: Annotated[int, Field(ge=1, le=86_400, strict=True)] = 60

    @model_validator(mode="after")
    def _one_of_two(self) -> ObjectChangedTrigger:
        if (self.object is None) == (self.prefix is None):
            raise ValueError("either object or prefix is needed, and not both")
        return self


Trigger = Annotated[CronTrigger | IntervalTrigger | ObjectChangedTrigger, Field(discriminator="type")]


class InboxInput(_Part):
    """A file taken from the project's inbox when the schedule fires: the `object` of that name as it is
    then, or with ``changed: true`` the one whose change fired the schedule."""

    object: ObjectName | None = None
    changed: Literal[True] | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> InboxInput:
        if (self.object is None) == (self.changed is None):
            raise ValueError("either object or changed: true is needed, and not both")
        return self


class ScheduledJob(_Part):
    """What a fire submits: a job request, where model and data set may come from the inbox instead."""

    model_id: Id | None = None
    model: InboxInput | None = None
    dataset_id: Id | None = None
    dataset: InboxInput | None = None
    spec: CompressionSpec
    name: Annotated[str, StringConstraints(max_length=200)] | None = None
    metadata: Metadata = Field(default_factory=dict)
    limits: JobLimits = JobLimits()

    @model_validator(mode="after")
    def _inputs_once(self) -> ScheduledJob:
        if (self.model_id is None) == (self.model is None):
            raise ValueError("either model_id or model is needed, and not both")
        if self.dataset_id is not None and self.dataset is not None:
            raise ValueError("dataset_id and dataset are not given both")
        return self

    @property
    def inbox_inputs(self) -> tuple[InboxInput, ...]:
        """Those of the inputs that are still to be taken from the inbox."""
        return tuple(given for given in (self.model, self.dataset) if given is not None)

    def request(self, *, model_id: str, dataset_id: str | None) -> JobRequest:
        """The request with these files."""
        return JobRequest(
            model_id=model_id,
            dataset_id=dataset_id,
            spec=self.spec,
            name=self.name,
            metadata=self.metadata,
            limits=self.limits,
        )


class RegressionLimits(_Part):
    """By how much a run may be worse than the last good run before it counts as regressed. A job that fails
    counts always, and so does an output of the good run that could not be made.

    `accuracy_drop` is in percentage points of a metric that is a share, and in per cent of the good run's
    value of one that is an error; a drop that may be chance (its 95 % interval includes zero) does not
    count. `size_growth` is in per cent of the good run's gzipped bytes. Each output is compared with the one
    of the same name; null leaves that out.
    """

    accuracy_drop: Annotated[float, Field(ge=0, le=100)] | None = None
    size_growth: Annotated[float, Field(ge=0, le=10_000)] | None = None


class ScheduleRequest(_Part):
    """The body of ``POST /v1/schedules``.

    `catch_up_window_s`: a fire that was missed by more seconds than this is skipped, whatever `catch_up`
    says. `regression` null compares nothing. After `ends_at`, or `max_runs` fires that were not skipped, the
    schedule has ended.
    """

    name: Name | None = None
    trigger: Trigger
    job: ScheduledJob
    catch_up: CatchUp = "last"
    catch_up_window_s: Annotated[int, Field(ge=1, le=_YEAR_S, strict=True)] = 86_400
    overlap: Overlap = "allow"
    regression: RegressionLimits | None = RegressionLimits()
    paused: Annotated[bool, Field(strict=True)] = False
    metadata: Metadata = Field(default_factory=dict)
    ends_at: AwareDatetime | None = None
    max_runs: Annotated[int, Field(ge=1, le=10**9, strict=True)] | None = None

    @model_validator(mode="after")
    def _changed_needs_a_change(self) -> ScheduleRequest:
        by_change = isinstance(self.trigger, ObjectChangedTrigger)
        if not by_change and any(given.changed for given in self.job.inbox_inputs):
            raise ValueError("changed: true needs a trigger of type object_changed")
        return self


class ScheduleChange(_Part):
    """The body of ``PATCH /v1/schedules/{id}``: what is given replaces what was, the rest stays."""

    name: Name | None = None
    trigger: Trigger | None = None
    job: ScheduledJob | None = None
    catch_up: CatchUp | None = None
    catch_up_window_s: Annotated[int, Field(ge=1, le=_YEAR_S, strict=True)] | None = None
    overlap: Overlap | None = None
    regression: RegressionLimits | None = None
    metadata: Metadata | None = None
    ends_at: AwareDatetime | None = None
    max_runs: Annotated[int, Field(ge=1, le=10**9, strict=True)] | None = None

    @model_validator(mode="after")
    def _only_some_can_be_null(self) -> ScheduleChange:
        for name in self.model_fields_set - {"name", "regression", "ends_at", "max_runs"}:
            if getattr(self, name) is None:
                raise ValueError(f"{name} cannot be null")
        return self


class Schedule(_Answer):
    """A schedule as the service shows it.

    `next_fire_at` is null while it is paused, once it has ended and where changes of objects fire it;
    `next_fires` has more of them, where asked for. `runs_made` counts the fires that were not skipped,
    without those asked for by hand. `last_good_run` is the id of the run that later ones are compared with.
    `problem` says why it cannot do its work at the moment.
    """

    id: str
    object: Literal["schedule"] = "schedule"
    name: str | None = None
    state: Literal["active", "paused", "ended"] | str
    trigger: dict[str, Any]
    job: dict[str, Any]
    catch_up: str
    catch_up_window_s: int
    overlap: str
    regression: RegressionLimits | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    ends_at: datetime | None = None
    max_runs: int | None = None
    next_fire_at: datetime | None = None
    next_fires: list[datetime] | None = None
    runs_made: int = 0
    last_good_run: str | None = None
    problem: Problem | None = None
    created_at: datetime
    updated_at: datetime


class RegressionReason(_Answer):
    """One way in which a run is worse than the good run. `change` and `limit` are in percentage points for
    the accuracy of a share, otherwise in per cent; `low` and `high` are the 95 % interval of `change`."""

    code: Literal["accuracy_drop", "size_growth", "output_missing", "job_failed"] | str
    detail: str
    output: str | None = None
    metric: str | None = None
    before: float | None = None
    after: float | None = None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None


class Regression(_Answer):
    """What comparing a run with the last good run, `against`, came to. Null as long as there is none."""

    regressed: bool
    against: str | None = None
    reasons: list[RegressionReason] = Field(default_factory=list)


class ScheduleRun(_Answer):
    """A fire and what came of it.

    `fire_time` is the time it was for, and `late_by_s` how much later the run was made. A run that was
    skipped says in `skipped_because` why: missed, overlap, or changed_again when the object has new bytes,
    which fire the schedule themselves. One that stands for several missed fires counts them in `fires`,
    `first_fire_time` being the earliest. `source` is the object whose change it was. `attempted`
    counts the tries to submit the job; `error` says why it was refused, has failed, or is still pending.
    """

    id: str
    object: Literal["schedule_run"] = "schedule_run"
    schedule_id: str
    cause: Literal["time", "manual", "object_changed"] | str
    state: RunState | str
    fire_time: datetime
    first_fire_time: datetime | None = None
    fires: int = 1
    made_at: datetime
    late_by_s: float = 0.0
    job_id: str | None = None
    skipped_because: Literal["missed", "overlap", "changed_again"] | str | None = None
    source: dict[str, str] | None = None
    attempted: int = 0
    verdict: str | None = None
    error: Problem | None = None
    regression: Regression | None = None
    ended_at: datetime | None = None
