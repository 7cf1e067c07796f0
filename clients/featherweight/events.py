"""What a running job says, in order: the events of ``GET /v1/jobs/{id}/events``.

The compression domain speaks through one callable, ``emit(event)``; the same objects go to the
event stream as JSON. `type` tells them apart.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

__all__ = ["EVENT", "Event", "LogEvent", "ProgressEvent", "StageEvent", "StateEvent", "WarningEvent"]


class _Event(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class StateEvent(_Event):
    """The job entered `state` in attempt `attempt` (0 before the first)."""

    type: Literal["state"] = "state"
    state: str
    attempt: int = 0


class StageEvent(_Event):
    """Stage `index` of `total` began: load, baseline, one for each step, convert, evaluate, report."""

    type: Literal["stage"] = "stage"
    stage: str
    index: int
    total: int


class ProgressEvent(_Event):
    """`fraction` of the whole job, 0 to 1; `step` of `total` within the stage; metrics by name."""

    type: Literal["progress"] = "progress"
    stage: str
    fraction: float
    step: int | None = None
    total: int | None = None
    eta_s: float | None = None
    metrics: dict[str, float] = Field(default_factory=dict)


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
    StateEvent | StageEvent | ProgressEvent | LogEvent | WarningEvent,
    Field(discriminator="type"),
]
EVENT: TypeAdapter[Event] = TypeAdapter(Event)
