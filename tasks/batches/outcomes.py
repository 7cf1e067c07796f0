"""How an item ended, by the job that did it or by another's result."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import ValidationError

from featherweight.batch import BatchItem, BatchItemState, FileSummary, ItemSummary
from featherweight.job import JobState
from featherweight.problem import Problem, problem
from featherweight.report import Report, Variant
from tasks import keys
from tasks.batches.records import BatchRecord, job_id_of
from tasks.records import JobRecord
from tasks.storage import Storage

__all__ = ["by_job", "by_mate", "by_refusal", "unbegun"]

_UNBEGUN = {
    "cancelled": ("batch_cancelled", "the batch was cancelled before the item had ended"),
    "expired": ("batch_expired", "the batch's limits.max_total_s passed before the item had ended"),
    "stopped": ("batch_stopped", "another item failed before this one was begun, and on_failure is stop"),
}


def by_job(storage: Storage, batch: BatchRecord, item: BatchItem, job: JobRecord) -> BatchItem:
    """The item as its job ended, or as an earlier job of which it takes the result. StorageUnavailable."""
    state, error = BatchItemState(job.state), job.error
    if job.state == JobState.CANCELLED and batch.stopping == "expired":
        state, error = BatchItemState.EXPIRED, _early("expired")
    is_own = job.id == job_id_of(batch.id, item.custom_id or "")
    return item.model_copy(
        update={
            "state": state,
            "job_id": job.id if is_own else None,
            "reused_from": None if is_own else job.id,
            "verdict": job.verdict,
            "summary": _summary(storage, job),
            "artifacts": job.artifacts,
            "error": error,
            "ended_at": job.ended_at if is_own else datetime.now(UTC),
        }
    )


def by_mate(item: BatchItem, leader: BatchItem) -> BatchItem:
    """The item, equal to `leader`, which has ended."""
    same = {"state", "verdict", "summary", "artifacts", "error"}
    told = {name: getattr(leader, name) for name in same}
    # Of a job that was cancelled or expired there is no result.
    has_result = leader.state in (BatchItemState.SUCCEEDED, BatchItemState.FAILED)
    told["reused_from"] = leader.result_job_id if has_result else None
    return item.model_copy(update={**told, "ended_at": datetime.now(UTC)})


def by_refusal(item: BatchItem, error: Problem) -> BatchItem:
    """The item, of which no job could be made: failed for want of room, invalid for any other reason."""
    full = error.code == "storage_quota_exceeded"
    state = BatchItemState.FAILED if full else BatchItemState.INVALID
    return item.model_copy(update={"state": state, "error": error, "ended_at": datetime.now(UTC)})


def unbegun(batch: BatchRecord, item: BatchItem) -> BatchItem:
    """The item, which was never begun because the batch is being stopped."""
    why = batch.stopping or "cancelled"
    state = BatchItemState.EXPIRED if why == "expired" else BatchItemState.CANCELLED
    return item.model_copy(update={"state": state, "error": _early(why), "ended_at": datetime.now(UTC)})


def _early(why: str) -> Problem:
    return problem(*_UNBEGUN[why])


def _summary(storage: Storage, job: JobRecord) -> ItemSummary | None:
    if job.state != JobState.SUCCEEDED:
        return None
    try:
        report = Report.model_validate_json(storage.read(keys.report_key(job.project, job.id, job.attempt)))
    except (FileNotFoundError, ValidationError):
        return None  # A report that cannot be read is said by whoever asks for it.
    accuracy = report.original.accuracy
    return ItemSummary(
        metric=None if accuracy is None else accuracy.metric,
        original=_file(report.original),
        outputs=[_file(variant) for variant in report.outputs],
        missing=[output.output for output in report.missing],
    )


def _file(variant: Variant) -> FileSummary:
    return FileSummary(
        name=variant.name,
        format=variant.format,
        bytes=variant.bytes,
        gzip_bytes=variant.gzip_bytes,
        accuracy=None if variant.accuracy is None else variant.accuracy.value,
    )
