"""The job request of a run: the schedule's, with the files that it takes from the inbox at that time."""

from __future__ import annotations

from typing import Literal, Protocol

from featherweight.job import JobRequest
from featherweight.problem import FieldError, Problem, problem
from featherweight.schedule import InboxInput
from tasks.inbox import Inbox
from tasks.intake import FileRefused
from tasks.records import DatasetRecord, ModelRecord
from tasks.schedules.records import RunRecord, ScheduleRecord
from tasks.submission import SubmissionRefused

__all__ = ["ChangedAgain", "Inputs"]


class ChangedAgain(Exception):
    """The object whose change a run is about has changed once more."""


class Adopts(Protocol):
    def adopt(
        self, project: str, name: str, kind: Literal["model", "dataset"], *, etag: str | None = None
    ) -> ModelRecord | DatasetRecord: ...


class Inputs:
    def __init__(self, inbox: Inbox) -> None:
        self._inbox: Adopts = inbox

    def request(self, record: ScheduleRecord, run: RunRecord) -> JobRequest:
        """SubmissionRefused for a file that cannot be taken; ChangedAgain; StorageUnavailable, RedisError."""
        job = record.wanted.job
        model_id = job.model_id or self._taken(record, run, "model", job.model)
        dataset_id = job.dataset_id or self._taken(record, run, "dataset", job.dataset)
        if model_id is None:
            raise AssertionError("a scheduled job has a model")
        return job.request(model_id=model_id, dataset_id=dataset_id)

    def _taken(
        self,
        record: ScheduleRecord,
        run: RunRecord,
        kind: Literal["model", "dataset"],
        wanted: InboxInput | None,
    ) -> str | None:
        if wanted is None:
            return None
        source = run.source if wanted.changed else {"name": wanted.object or ""}
        if source is None:
            raise SubmissionRefused(_nothing_changed(kind))
        try:
            return self._inbox.adopt(record.project, source["name"], kind, etag=source.get("etag")).id
        except FileRefused as refused:
            if refused.problem.code == "object_changed" and "etag" in source:
                raise ChangedAgain from None
            raise SubmissionRefused(refused.problem, refused.retry_after_s) from None


def _nothing_changed(kind: str) -> Problem:
    detail = f"no object has changed that the run could take for its {kind}"
    return problem(
        "invalid_request",
        detail,
        hint="a run that is asked for by hand needs a schedule that names its files",
        errors=[FieldError(pointer=f"/job/{kind}/changed", code="nothing_changed", detail=detail)],
    )
