"""Items become jobs, never more at once than the batch may have, and jobs that ended end items."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from featherweight.batch import BatchItem, BatchState
from featherweight.job import Origin
from featherweight.problem import problem
from tasks.batches.files import BatchFiles, page_of
from tasks.batches.identity import Earlier, equality
from tasks.batches.outcomes import by_job, by_mate, by_refusal
from tasks.batches.records import BatchRecord, StoredItem, job_id_of
from tasks.batches.store import BatchStore
from tasks.records import JobRecord
from tasks.storage import Storage
from tasks.submission import SubmissionRefused, Submitter

__all__ = ["Submission"]

_MATES_AT_ONCE = 200
# Somebody else may be making the job of an item that was begun just now.
_BEGINNING_S = 10.0
# When to look again whether there is room in the queue; what is refused may say sooner.
_ROOM_S = 15.0


class Submission:
    """Any method may raise redis.RedisError and StorageUnavailable, and be called again then."""

    def __init__(
        self,
        store: BatchStore,
        storage: Storage,
        submitter: Submitter,
        earlier: Earlier,
        files: Callable[[BatchRecord], BatchFiles],
    ) -> None:
        self._store = store
        self._storage = storage
        self._submitter = submitter
        self._earlier = earlier
        self._files = files
        self._pages = _Pages()

    def submit(self, batch: BatchRecord, at_most: int) -> bool:
        """Begin the next items; whether more could be begun at once."""
        for _ in range(at_most):
            index = self._store.take(batch.id)
            if index is None or not self._begin(batch, self._stored(batch, index)):
                return False
        return True

    def look_after(self, batch: BatchRecord) -> None:
        """End the items whose jobs have ended unnoticed, and begin those again whose beginning broke off."""
        active, now = self._store.active(batch.id), self._store.now()
        for item in self._store.items(batch.id, active):
            job = self._submitter.jobs.find(job_id_of(batch.id, item.custom_id or ""))
            if job is not None and job.done:
                self.end_by_job(batch, item, job)
            elif job is None and now - active[item.index] > _BEGINNING_S:
                self._begin(batch, self._stored(batch, item.index))
        leaders = self._store.leaders(batch.id)
        for leader, ended in zip(leaders, self._store.have_ended(batch.id, leaders), strict=True):
            if ended:
                self._end_mates(batch, leader)

    def end_by_job(self, batch: BatchRecord, item: BatchItem, job: JobRecord) -> None:
        """The item has the job's result, and with it all that wait for the same."""
        self._end(batch, by_job(self._storage, batch, item, job))

    def _stored(self, batch: BatchRecord, index: int) -> StoredItem:
        return self._pages.item(batch, self._files(batch), self._store.pages(batch.id), index)

    def _end(self, batch: BatchRecord, item: BatchItem) -> None:
        self._store.end_item(batch.id, item)
        self._end_mates(batch, item.index)

    def _end_mates(self, batch: BatchRecord, leader: int) -> None:
        while mates := self._store.mates(batch.id, leader, _MATES_AT_ONCE):
            done = self._store.items(batch.id, [leader])
            for item in self._store.items(batch.id, mates):
                self._store.end_item(batch.id, by_mate(item, done[0]))
            self._store.release_mates(batch.id, leader, mates)
        self._store.release_mates(batch.id, leader, [])

    def _begin(self, batch: BatchRecord, stored: StoredItem) -> bool:
        """False when the queue takes no more at the moment; the item is then begun again later."""
        item, request = stored.item, stored.request
        if request is None or item.custom_id is None:
            self._end(
                batch, by_refusal(item, item.error or problem("invalid_request", "the item is not valid"))
            )
            return True
        job_id = job_id_of(batch.id, item.custom_id)
        job = self._submitter.jobs.find(job_id)
        try:
            if job is None:
                model, dataset = self._submitter.find_inputs(batch.project, request)
                equal = equality(model.sha256, dataset.sha256 if dataset else None, request)
                if self._has_result_of_another(batch, item, equal, model.framework):
                    return True
                origin = Origin(type="batch", id=batch.id, item=item.custom_id)
                job = self._submitter.submit(
                    batch.project, request, job_id=job_id, request_id=batch.request_id, origin=origin
                )
        except SubmissionRefused as error:
            return self._refused(batch, item, error)
        if job.done:
            self.end_by_job(batch, item, job)
        else:
            self._cancel_if_too_late(batch, job)
        return True

    def _has_result_of_another(self, batch: BatchRecord, item: BatchItem, equal: str, framework: str) -> bool:
        first, has_ended = self._store.follow(batch.id, item.index, equal)
        if first != item.index:
            if has_ended:
                self._end(batch, by_mate(item, self._store.items(batch.id, [first])[0]))
            return True
        earlier = self._earlier.find(batch.project, equal, framework) if batch.reuse else None
        if earlier is None:
            return False
        self.end_by_job(batch, item, earlier)
        return True

    def _refused(self, batch: BatchRecord, item: BatchItem, error: SubmissionRefused) -> bool:
        if error.retry_after_s is None and not error.problem.retryable:
            self._end(batch, by_refusal(item, error.problem))
            return True
        self._store.begin_again(batch.id, item.index)
        self._store.due_at(batch.id, min(_ROOM_S, error.retry_after_s or _ROOM_S))
        return False

    def _cancel_if_too_late(self, batch: BatchRecord, job: JobRecord) -> None:
        """The batch may have been stopped while the job was being made."""
        now = self._store.find(batch.id)
        if now is None or now.done or now.state in (BatchState.CANCELLING, BatchState.FINALIZING):
            self._submitter.jobs.request_cancel(job.project, job.id)


class _Pages:
    """Stored items, found by index. The lines of the page used last are kept: batches are begun in order."""

    def __init__(self) -> None:
        self._kept: tuple[str, int, list[bytes]] | None = None

    def item(self, batch: BatchRecord, files: BatchFiles, pages: Sequence[int], index: int) -> StoredItem:
        """`pages` are the first indexes of each. StorageUnavailable."""
        number = page_of(pages, index)
        kept = self._kept
        if kept is None or kept[:2] != (batch.id, number):
            kept = self._kept = (batch.id, number, files.item_lines(number))
        return StoredItem.model_validate_json(kept[2][index - pages[number]])
