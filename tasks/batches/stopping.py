"""Ending a batch before its items have: cancelled, out of time, or after a failure."""

from __future__ import annotations

from featherweight.batch import BatchItem
from featherweight.job import JobState
from tasks.batches.outcomes import unbegun
from tasks.batches.records import BatchRecord, job_id_of
from tasks.batches.store import BatchStore
from tasks.batches.submission import Submission
from tasks.store import JobStore

__all__ = ["Stopping"]

_AT_ONCE = 500


class Stopping:
    """Any method may raise redis.RedisError and StorageUnavailable, and be called again then."""

    def __init__(self, store: BatchStore, jobs: JobStore, submission: Submission) -> None:
        self._store = store
        self._jobs = jobs
        self._submission = submission

    def step(self, batch: BatchRecord) -> bool:
        """Stop what runs, then end some of the items that never began; whether some of these are left.

        After a failure what runs may end; what waits in the queue does not begin."""
        active = self._store.active(batch.id)
        for item in self._store.items(batch.id, active):
            self._stop(batch, item)
        first, total = batch.swept, batch.counts.total
        wanted = range(first, min(first + _AT_ONCE, total))
        ended = self._store.have_ended(batch.id, wanted)
        for item in self._store.items(
            batch.id, [index for index, over in zip(wanted, ended, strict=True) if not over]
        ):
            if item.index not in active:
                self._store.end_item(batch.id, unbegun(batch, item))
        self._store.swept(batch.id, wanted.stop)
        return wanted.stop < total

    def _stop(self, batch: BatchRecord, item: BatchItem) -> None:
        job = self._jobs.find(job_id_of(batch.id, item.custom_id or ""))
        if job is None:
            self._store.end_item(batch.id, unbegun(batch, item))
            return
        if not job.done and (batch.stopping != "stopped" or job.state == JobState.QUEUED):
            job = self._jobs.request_cancel(job.project, job.id)
        if job.done:
            self._submission.end_by_job(batch, item, job)
