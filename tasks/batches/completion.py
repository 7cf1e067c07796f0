"""The end of a batch: every item has ended, the result files are written, whoever wants to know is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from featherweight.batch import BatchItem, BatchItemState, BatchState
from featherweight.problem import Problem, problem
from tasks.batches.files import BatchFiles
from tasks.batches.records import BatchRecord
from tasks.batches.store import BatchStore
from tasks.notices import EventType, Notices

__all__ = ["Completion"]

_EVENTS: dict[str, EventType] = {
    BatchState.COMPLETED: "batch.completed",
    BatchState.CANCELLED: "batch.cancelled",
    BatchState.FAILED: "batch.failed",
    BatchState.EXPIRED: "batch.failed",
}


class Completion:
    def __init__(
        self, store: BatchStore, files: Callable[[BatchRecord], BatchFiles], notices: Notices | None
    ) -> None:
        self._store = store
        self._files = files
        self._notices = notices

    def finish(self, batch: BatchRecord) -> None:
        """Write what came of it, and end it. RedisError, StorageUnavailable: it can be done again."""
        files, pages = self._files(batch), self._store.pages(batch.id)
        for number, first in enumerate(pages):
            following = pages[number + 1] if number + 1 < len(pages) else batch.counts.total
            files.put_outcomes(number, self._store.items(batch.id, range(first, following)))
        state, error = self._end(batch)
        self._store.finish(
            batch.id,
            state,
            outcome=_outcome(batch),
            error=error,
            results=files.put_result_file("results", self._items(files, len(pages), succeeded=True)),
            errors=files.put_result_file("errors", self._items(files, len(pages), succeeded=False)),
            pages=pages,
        )

    def attend(self, batch: BatchRecord) -> None:
        """Of a batch that has ended: keep its record in storage and tell of it. RedisError,
        StorageUnavailable: it can be done again."""
        self._files(batch).put_end(self._store.fields(batch.id))
        if self._notices is not None:
            data = batch.public().model_dump(mode="json")
            self._notices.tell(batch.project, _EVENTS[batch.state], batch.id, data)
        self._store.attended(batch.id)

    def _items(self, files: BatchFiles, pages: int, *, succeeded: bool) -> Iterator[BatchItem]:
        for number in range(pages):
            for item in files.outcomes(number):
                if (item.state == BatchItemState.SUCCEEDED) == succeeded:
                    yield item

    def _end(self, batch: BatchRecord) -> tuple[BatchState, Problem | None]:
        if batch.stopping == "cancelled":
            return BatchState.CANCELLED, None
        if batch.stopping == "expired":
            detail = "the batch's limits.max_total_s passed before all of its items had ended"
            return BatchState.EXPIRED, problem("batch_expired", detail)
        if batch.stopping == "stopped":
            return BatchState.FAILED, self._stopped(batch)
        if batch.counts.succeeded == 0:
            detail = f"none of the {batch.counts.total} items succeeded"
            return BatchState.FAILED, problem("all_items_failed", detail, hint=_SEE_ERRORS)
        return BatchState.COMPLETED, None

    def _stopped(self, batch: BatchRecord) -> Problem:
        if batch.stopped_by is None:
            detail = f"{batch.counts.invalid} items are not valid, and on_failure is stop: nothing was begun"
            return problem("batch_stopped", detail, hint=_SEE_ERRORS)
        found = self._store.items(batch.id, [batch.stopped_by])
        name = found[0].custom_id if found else None
        detail = f"the item {name!r} did not succeed, and on_failure is stop"
        return problem("batch_stopped", detail, hint=_SEE_ERRORS)


_SEE_ERRORS = "GET /v1/batches/{id}/errors has every item that did not succeed, and why"


def _outcome(batch: BatchRecord) -> str:
    if batch.counts.succeeded == 0:
        return "failed"
    return "succeeded" if batch.counts.succeeded == batch.counts.total else "partial"
