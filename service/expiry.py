"""When things are due to be removed, for whoever is shown them: by the limits that the project has now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from flask import g

from featherweight.resources import Limits
from service.errors import ProblemError
from service.services import services
from tasks.records import DatasetRecord, JobRecord, ModelRecord

__all__ = ["all_dated", "check_artifacts", "dated"]

R = TypeVar("R", JobRecord, ModelRecord, DatasetRecord)


def dated(record: R) -> R:
    """The record with the times when it, and a job's files, become due to be removed."""
    limits = _limits(record.project)
    if isinstance(record, JobRecord):
        return record.model_copy(
            update={
                "artifacts_expire_at": _due(record.ended_at, limits.artifacts_ttl_s, limits.jobs_ttl_s),
                "expires_at": _due(record.ended_at, limits.jobs_ttl_s),
            }
        )
    age = limits.models_ttl_s if isinstance(record, ModelRecord) else limits.datasets_ttl_s
    return record.model_copy(update={"expires_at": _due(record.created_at, age)})


def all_dated(found: tuple[Sequence[R], str | None]) -> tuple[list[R], str | None]:
    """The same for a page."""
    records, following = found
    return [dated(record) for record in records], following


def check_artifacts(record: JobRecord) -> None:
    """artifacts_expired once the job's files were removed, or have begun to be."""
    if record.artifacts_expired_at is not None:
        raise ProblemError(
            "artifacts_expired",
            f"the files of the job were removed at {record.artifacts_expired_at:%Y-%m-%dT%H:%M:%SZ}, as the "
            "project keeps them for a time",
            hint="run the job again",
        )


def _limits(project: str) -> Limits:
    # Asked once for all rows of a page.
    if "limits" not in g:
        g.limits = services().limits.get(project)
    found: Limits = g.limits
    return found


def _due(since: datetime | None, *ages: int) -> datetime | None:
    shortest = min((age for age in ages if age), default=0)
    return since + timedelta(seconds=shortest) if since and shortest else None
