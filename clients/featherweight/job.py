"""A job: its states, the legal transitions between them, and the record a caller sees.

queued ──> running ──> finalizing ──> succeeded
   │  ^       │ │           │ └─────> failed
   │  └───────┘ │           │         (a lost worker's job goes back to queued)
   │            ├───────────┼───────> failed
   ├────────────┴───────────┴───────> cancelled
   └────────────────────────────────> expired   (max_queue_s passed; or max_total_s, also while it ran)
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from featherweight.problem import Problem
from featherweight.report import Verdict
from featherweight.spec import CompressionSpec

__all__ = [
    "TRANSITIONS",
    "Artifact",
    "Attempt",
    "IllegalTransition",
    "Job",
    "JobChanges",
    "JobLimits",
    "JobRequest",
    "JobState",
    "Origin",
    "Progress",
    "ResumedFrom",
    "check_transition",
]


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    FINALIZING = "finalizing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def done(self) -> bool:
        """No transition leads out of this state."""
        return not TRANSITIONS[self]


_S = JobState
TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    _S.QUEUED: frozenset({_S.RUNNING, _S.CANCELLED, _S.EXPIRED, _S.FAILED}),
    _S.RUNNING: frozenset({_S.QUEUED, _S.FINALIZING, _S.FAILED, _S.CANCELLED, _S.EXPIRED}),
    _S.FINALIZING: frozenset({_S.QUEUED, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED, _S.EXPIRED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
    _S.EXPIRED: frozenset(),
}


class IllegalTransition(ValueError):
    """A state was asked to become one that cannot follow it."""


def check_transition(old: JobState, new: JobState) -> None:
    """Raise IllegalTransition unless `new` may follow `old`."""
    if new not in TRANSITIONS[old]:
        raise IllegalTransition(f"a job that is {old} cannot become {new}")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Answer(BaseModel):
    """Sent by the service: a client that is older than the service must not choke on a new key."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class JobLimits(_Part):
    """Deadlines in seconds. Waiting in the queue never eats running time.

    `max_queue_s` bounds each wait in the queue and `max_run_s` each attempt; `max_total_s` everything from
    the job's creation on, all waits and attempts together. Left out, there is no such deadline.
    """

    max_queue_s: Annotated[int, Field(ge=1, le=30 * 86_400, strict=True)] = 86_400
    max_run_s: Annotated[int, Field(ge=1, le=7 * 86_400, strict=True)] = 14_400
    max_total_s: Annotated[int, Field(ge=1, le=90 * 86_400, strict=True)] | None = None


Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(min_length=1, max_length=64)],
        Annotated[str, StringConstraints(max_length=512)],
    ],
    Field(max_length=16),
]


class JobRequest(_Part):
    """The body of ``POST /v1/jobs``."""

    model_id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    dataset_id: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    spec: CompressionSpec
    name: Annotated[str, StringConstraints(max_length=200)] | None = None
    metadata: Metadata = Field(default_factory=dict)
    limits: JobLimits = JobLimits()


class JobChanges(_Part):
    """The body of ``POST /v1/jobs/{id}/clone``: what the new job has otherwise, as a JSON Merge Patch (RFC
    7396) of the old one's request. What is left out stays, null takes away; `spec` is replaced as a whole."""

    model_id: str | None = None
    dataset_id: str | None = None
    spec: CompressionSpec | None = None
    name: str | None = None
    metadata: dict[str, str | None] | None = None
    limits: dict[str, int | None] | None = None


class Progress(_Answer):
    """How far a running job is. `fraction` is of the whole job, 0 to 1; `step` of `total` is of
    the current stage (optimiser steps while training); `eta_s` seconds to the end of the stage."""

    fraction: float = 0.0
    step: int | None = None
    total: int | None = None
    eta_s: float | None = None
    metrics: dict[str, float] = Field(default_factory=dict)


class ResumedFrom(_Answer):
    """Where an attempt went on. The steps before `step` (from 0, as in the spec) were not run again; it is
    the number of steps when all were finished. `epoch` epochs of the training in it had ended; of training
    in rounds `round` rounds, and `epoch` epochs of the next one."""

    step: int
    epoch: int = 0
    round: int | None = None


class Attempt(_Answer):
    """One try at running the job. `ended_because` is ``succeeded``, ``cancelled`` or a problem code.

    `counted` attempts were lost through no fault of the job's; there may be only so many of them. `detail`
    says how it ended, as far as anybody saw, and `stage` where the job was. `exit_code` or `signal`
    (``SIGKILL``) are those of the process that ran the job. `log_tail` is the end of its log, which for an
    attempt that was lost is kept nowhere else; of a lost worker only what the job had said itself.
    `resumed_from` is null for an attempt that began at the beginning.
    """

    number: int
    worker: str
    started_at: datetime
    ended_at: datetime | None = None
    ended_because: str | None = None
    counted: bool = False
    stage: str | None = None
    detail: str | None = None
    exit_code: int | None = None
    signal: str | None = None
    log_tail: str | None = None
    resumed_from: ResumedFrom | None = None


class Artifact(_Answer):
    """A file a job made, or kept although it failed. `sha256` in lower-case hex, `bytes` the raw size."""

    name: str
    format: str
    bytes: int
    sha256: str
    media_type: str = "application/octet-stream"


class Origin(_Answer):
    """What made a job, where that was not a request for it alone: `id` names it (the job repeated, the batch,
    the schedule), `item` which of its jobs this is (a batch's ``custom_id``, a schedule's fire time)."""

    type: Literal["retry", "clone", "batch", "schedule"] | str
    id: str
    item: str | None = None


class Job(_Answer):
    """A job as the service shows it.

    `artifacts` are there once it is done. A job that failed has those that `error` names, if any:
    ``checkpoint.keras``, the model before a training diverged.
    """

    id: str
    object: Literal["job"] = "job"
    name: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    model_id: str
    dataset_id: str | None = None
    spec: dict[str, Any]
    limits: JobLimits = JobLimits()
    # A plain string beside the enum: a client must survive a state that it does not know yet.
    # Left to right, or pydantic's smart union keeps every known state a string as well.
    state: Annotated[JobState | str, Field(union_mode="left_to_right")]
    done: bool = False
    verdict: Verdict | str | None = None
    stage: str | None = None
    progress: Progress = Progress()
    attempt: int = 0
    attempts: list[Attempt] = Field(default_factory=list)
    cancel_requested: bool = False
    origin: Origin | None = None
    created_at: datetime
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finalizing_at: datetime | None = None
    ended_at: datetime | None = None
    updated_at: datetime | None = None
    error: Problem | None = None
    artifacts: list[Artifact] = Field(default_factory=list)
