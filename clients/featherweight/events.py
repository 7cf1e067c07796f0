"""What a running job says, in order: the events of ``GET /v1/jobs/{id}/events``.

The compression domain speaks through one callable, ``emit(event)``; the same objects go to the
event stream as JSON. `type` tells them apart.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator

__all__ = [
    "EVENT",
    "Event",
    "LogEvent",
    "ProgressEvent",
    "ResumedEvent",
    "StageEvent",
    "StateEvent",
    "WarningEvent",
]


class _Event(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class StateEvent(_Event):
    """The job entered `state` in attempt `attempt` (0 before the first)."""

    type: Literal["state"] = "state"
    state: str
    attempt: int = 0


class StageEvent(_Event):
    """One of `total` stages began: load, baseline, one for each step, convert, evaluate, report.

    `index` counts from 0."""

    type: Literal["stage"] = "stage"
    stage: str
    index: int
    total: int


class ResumedEvent(_Event):
    """The attempt goes on where an earlier one stopped: the steps before `step` (from 0, as in the spec) are
    not run again, and of the training in it `epoch` epochs had ended, of training in rounds `round` rounds
    and then `epoch` epochs of the next."""

    type: Literal["resumed"] = "resumed"
    step: Annotated[int, Field(ge=0, le=10_000)]
    epoch: Annotated[int, Field(ge=0, le=10**9)] = 0
    round: Annotated[int, Field(ge=0, le=10**9)] | None = None


class ProgressEvent(_Event):
    """`fraction` of the whole job, 0 to 1; `step` of `total` within the stage; metrics by name.

    JSON knows no NaN: a metric that is not finite, as a loss that diverged, is left out.
    """

    type: Literal["progress"] = "progress"
    stage: str
    fraction: float
    step: int | None = None
    total: int | None = None
    eta_s: float | None = None
    metrics: dict[str, float] = Field(default_factory=dict)

    @field_validator("fraction")
    @classmethod
    def _within_bounds(cls, fraction: float) -> float:
        return min(max(fraction, 0.0), 1.0) if math.isfinite(fraction) else 0.0

    @field_validator("eta_s")
    @classmethod
    def _known_or_none(cls, eta_s: float | None) -> float | None:
        return eta_s if eta_s is not None and math.isfinite(eta_s) else None

    @field_validator("metrics")
    @classmethod
    def _finite(cls, metrics: dict[str, float]) -> dict[str, float]:
        return {name: value for name, value in metrics.items() if math.isfinite(value)}


class LogEvent(_Event):
    """A sentence for people."""

    type: Literal["log"] = "log"
    level: Literal["debug", "info", "warning", "error"] = "info"
    message: str


class WarningEvent(_Event):
    """A warning that will stand in the report; `code` is stable."""

    type: Literal["warning"] = "warning"
    code: str
    message: str
    layer: str | None = None


Event = Annotated[
    StateEvent | StageEvent | ResumedEvent | ProgressEvent | LogEvent | WarningEvent,
    Field(discriminator="type"),
]
EVENT: TypeAdapter[Event] = TypeAdapter(Event)
