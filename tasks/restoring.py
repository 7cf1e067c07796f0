"""A job's record back into the fields that the job store keeps of it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from featherweight.job import Attempt, JobRequest
from tasks.records import JobRecord

__all__ = ["stored_fields"]

_TIMES = ("created_at", "queued_at", "started_at", "finalizing_at", "ended_at", "updated_at")


def stored_fields(record: JobRecord, *, attempts_before: int = 0) -> dict[str, str | int]:
    """The fields of a job that ended as `record` says, or else those of one that begins anew."""
    request = JobRequest.model_validate(record.model_dump(mode="json", include=set(JobRequest.model_fields)))
    fields: dict[str, str | int | None] = {
        "project": record.project,
        "model_id": record.model_id,
        "queue": record.queue,
        "max_queue_s": record.limits.max_queue_s,
        "max_total_s": record.limits.max_total_s,
        "request": request.model_dump_json(),
        "request_id": record.request_id or "",
        "origin": record.origin.model_dump_json() if record.origin else "",
        "sequence": round(record.created_at.timestamp() * 1e6),
        "version": int(record.version) + 1,
        "created_at": _seconds(record.created_at),
        "attempt": attempts_before,
        "losses": 0,
        "attempts": "[]",
    }
    if record.done:
        fields |= _ended(record)
    return {name: value for name, value in fields.items() if value is not None}


def _ended(record: JobRecord) -> dict[str, str | int | None]:
    times = {name: getattr(record, name) for name in _TIMES}
    return {
        **{name: _seconds(at) for name, at in times.items() if at is not None},
        "attempt": record.attempt,
        "losses": record.losses,
        "attempts": json.dumps([_attempt(attempt) for attempt in record.attempts]),
        "verdict": record.verdict,
        "stage": record.stage,
        "progress": record.progress.model_dump_json(),
        "cancel_requested": 1 if record.cancel_requested else None,
        "error": record.error.model_dump_json() if record.error else None,
        "artifacts": json.dumps([artifact.model_dump() for artifact in record.artifacts]),
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    values = attempt.model_dump(exclude_none=True)
    return {name: _seconds(value) if isinstance(value, datetime) else value for name, value in values.items()}


def _seconds(at: datetime) -> str:
    return f"{at.timestamp():.6f}"
