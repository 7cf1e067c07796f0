"""Reading a batch's source: page by page into storage, every item checked, what is wrong noted with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from featherweight.batch import MAX_ITEMS, BatchRequest
from featherweight.problem import Problem, problem
from tasks.batches.checking import checked_item, duplicate, refused
from tasks.batches.files import PAGE_ITEMS, BatchFiles
from tasks.batches.records import BatchRecord, Entry, StoredItem
from tasks.batches.sources import Source, SourceUnreadable
from tasks.batches.store import BatchStore
from tasks.submission import SubmissionRefused, Submitter

__all__ = ["Validation"]

# The cursor of a source that has been read to its end.
_END = "end"

Open = Callable[[BatchRecord, BatchRequest], Source]


class Validation:
    """`open_source` finds the source of a batch."""

    def __init__(
        self,
        store: BatchStore,
        submitter: Submitter,
        files: Callable[[BatchRecord], BatchFiles],
        open_source: Open,
    ) -> None:
        self._store = store
        self._submitter = submitter
        self._files = files
        self._open = open_source

    def step(self, batch: BatchRecord) -> None:
        """Read one page more. Done twice, or by two at once, it is done once. RedisError, SourceBusy,
        StorageUnavailable."""
        if batch.cursor != _END:
            try:
                self._read(batch)
            except SourceUnreadable as error:
                self._store.reject(batch.id, error.problem)
                return
            except FileNotFoundError:
                self._store.reject(batch.id, _gone())
                return
            batch = self._store.get(batch.project, batch.id)
        if batch.cursor == _END:
            self._store.validated(batch.id)

    def _read(self, batch: BatchRecord) -> None:
        request = self._files(batch).request()
        chunk = self._open(batch, request).read(batch.cursor, PAGE_ITEMS)
        total = batch.counts.total + len(chunk.entries)
        if total > MAX_ITEMS:
            raise SourceUnreadable(_too_many())
        if chunk.cursor is None and total == 0:
            raise SourceUnreadable(_empty(batch))
        self._put(batch, request, chunk.entries, chunk.cursor or _END)

    def _put(self, batch: BatchRecord, request: BatchRequest, entries: Sequence[Entry], cursor: str) -> None:
        first = batch.counts.total
        found = [checked_item(first + place, entry, request.defaults) for place, entry in enumerate(entries)]
        named = [(each.item.index, each.item.custom_id) for each in found if each.item.custom_id is not None]
        twice = self._store.claim_ids(batch.id, named)
        requests = [each.request for each in found if each.request is not None]
        needed = {name for each in requests for name in (each.model_id, each.dataset_id) if name is not None}
        self._store.hold(batch.id, sorted(needed))
        page = [
            duplicate(each) if each.item.index in twice else self._checked(batch.project, each)
            for each in found
        ]
        self._files(batch).put_items(batch.read, page)
        self._store.put_page(batch.id, batch.read, cursor, [each.item for each in page])

    def _checked(self, project: str, stored: StoredItem) -> StoredItem:
        """Against what is stored and what can be done; invalid with all that is wrong."""
        if stored.request is None:
            return stored
        try:
            self._submitter.check(project, stored.request)
        except SubmissionRefused as error:
            return refused(stored, error.problem)
        return stored


def _gone() -> Problem:
    return problem("artifact_gone", "the batch's input file is no longer stored")


def _too_many() -> Problem:
    return problem("bad_batch_input", f"there are more than {MAX_ITEMS} items", hint="make several batches")


def _empty(batch: BatchRecord) -> Problem:
    what = f"there is no object under the prefix {batch.source.prefix!r}" if batch.source.prefix else None
    return problem("bad_batch_input", what or "there are no items in the input")
