"""What storage holds of a batch: the request, the items page by page, and the result files.

Pages are objects of their own, so that any item is found by reading one of them. After the loss of Redis
``batch.json`` alone is enough to begin again, and ``result.json`` says that there is no need to.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from pydantic import BaseModel

from featherweight.batch import BatchItem, BatchRequest, ResultFile
from tasks import keys
from tasks.batches.records import BatchRecord, StoredItem
from tasks.storage import Storage

__all__ = ["PAGE_BYTES", "PAGE_ITEMS", "BatchFiles", "page_of", "read_range"]

PAGE_ITEMS = 500
PAGE_BYTES = 2 * 1024 * 1024

_JSONL = "application/x-ndjson"


def page_of(pages: Sequence[int], index: int) -> int:
    """The number of the page that holds the item, from the first index of each."""
    return bisect_right(pages, index) - 1


class BatchFiles:
    """Of one batch. Any method may raise StorageUnavailable, and FileNotFoundError what reads."""

    def __init__(self, storage: Storage, project: str, batch_id: str) -> None:
        self._storage = storage
        self._project = project
        self.batch_id = batch_id

    # The request

    def put_request(self, request: BatchRequest, created_at: float) -> None:
        """Written once: a second time nothing changes."""
        value = {"id": self.batch_id, "created_at": created_at, "request": request.model_dump(mode="json")}
        with suppress(FileExistsError):
            self._storage.put_json(self._key("batch.json"), value, if_none_match=True)

    def request(self) -> BatchRequest:
        return BatchRequest.model_validate(self._storage.get_json(self._key("batch.json"))["request"])

    def created_at(self) -> float:
        """Seconds of the epoch."""
        return float(self._storage.get_json(self._key("batch.json"))["created_at"])

    # Pages

    def put_items(self, number: int, items: Iterable[StoredItem]) -> None:
        self._put_lines(f"items/{number:05}.jsonl", items)

    def item_lines(self, number: int) -> list[bytes]:
        """The page's lines, a `StoredItem` each."""
        return self._storage.read(self._key(f"items/{number:05}.jsonl")).splitlines()

    def put_outcomes(self, number: int, items: Iterable[BatchItem]) -> None:
        self._put_lines(f"outcomes/{number:05}.jsonl", items)

    def outcomes(self, number: int) -> list[BatchItem]:
        lines = self._storage.read(self._key(f"outcomes/{number:05}.jsonl")).splitlines()
        return [BatchItem.model_validate_json(line) for line in lines]

    # Results

    def put_result_file(self, name: str, items: Iterator[BatchItem]) -> ResultFile:
        """``results`` or ``errors``: streamed, a part of it in memory at a time."""
        counted = _Lines(items)
        size, sha256 = self._storage.put_stream(counted, self._key(f"{name}.jsonl"), media_type=_JSONL)
        return ResultFile(lines=counted.count, bytes=size, sha256=sha256)

    def stream(self, name: str) -> Iterator[bytes]:
        """``results`` or ``errors``, in chunks."""
        return self._storage.stream(self._key(f"{name}.jsonl"))

    def put_end(self, fields: dict[str, str]) -> None:
        self._storage.put_json(self._key("result.json"), fields)

    def end(self) -> dict[str, str]:
        """What `put_end` stored; FileNotFoundError while the batch has not ended."""
        found: dict[str, str] = self._storage.get_json(self._key("result.json"))
        return found

    def remove(self) -> None:
        self._storage.delete_prefix(keys.batch_prefix(self._project, self.batch_id))

    # Inside

    def _key(self, name: str) -> str:
        return keys.batch_key(self._project, self.batch_id, name)

    def _put_lines(self, name: str, items: Iterable[BaseModel]) -> None:
        self._storage.put_bytes(self._key(name), b"".join(map(_line, items)), media_type=_JSONL)


class _Lines:
    """Items as chunks of JSONL, counted."""

    def __init__(self, items: Iterator[BatchItem]) -> None:
        self._items = items
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        for item in self._items:
            self.count += 1
            yield _line(item)


def _line(item: BaseModel) -> bytes:
    return item.model_dump_json().encode() + b"\n"


def read_range(
    record: BatchRecord,
    first: int,
    limit: int,
    running: Callable[[range], list[BatchItem]],
    files: BatchFiles,
) -> list[BatchItem]:
    """At most `limit` items from index `first` on: by `running` while the batch has not ended, else of its
    pages."""
    wanted = range(first, min(first + limit, record.counts.total))
    if not record.done:
        return running(wanted)
    found: list[BatchItem] = []
    number = page_of(record.pages, first) if record.pages else 0
    while wanted and len(found) < len(wanted) and number < len(record.pages):
        page = files.outcomes(number)
        found += [item for item in page if item.index in wanted]
        number += 1
    return found
