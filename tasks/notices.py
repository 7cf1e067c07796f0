"""What other services can be told about: the types of events, and who takes them."""

from __future__ import annotations

from typing import Any, Literal, Protocol

__all__ = ["EventType", "Notices", "Unheard"]

EventType = Literal[
    "job.succeeded",
    "job.failed",
    "job.cancelled",
    "job.expired",
    "batch.completed",
    "batch.failed",
    "batch.cancelled",
    "schedule.regressed",
    "schedule.run_failed",
]


class Notices(Protocol):
    def tell(self, project: str, type: EventType, subject: str, data: dict[str, Any]) -> None:
        """Something happened to `subject` (an id). The same type and subject are one event, however often
        it is told. `data` is JSON as the API would answer it. RedisError."""


class Unheard:
    """Where nobody is to be told."""

    def tell(self, project: str, type: EventType, subject: str, data: dict[str, Any]) -> None:
        pass
