"""Where the items of a batch come from, read a page at a time from wherever the last page ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from featherweight.batch import BatchItemRequest, BatchRequest, NamedSpec
from featherweight.problem import Problem, problem
from tasks import strict_json
from tasks.batches.files import PAGE_BYTES
from tasks.batches.records import Entry

__all__ = [
    "Adoption",
    "Chunk",
    "FileSource",
    "InboxSource",
    "InlineSource",
    "MatrixSource",
    "Source",
    "SourceBusy",
    "SourceUnreadable",
    "source_of",
]

_READ_BYTES = 2 * PAGE_BYTES
_BOM = b"\xef\xbb\xbf"
# Each may be a file of gigabytes that is copied and judged.
_OBJECTS_AT_ONCE = 5


class SourceUnreadable(Exception):
    """There is no way to read items here; `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class SourceBusy(Exception):
    """It can be read later."""


@dataclass(frozen=True)
class Chunk:
    """Some entries, and where to go on; `cursor` is None at the end."""

    entries: Sequence[Entry]
    cursor: str | None


class Source(Protocol):
    def read(self, cursor: str, limit: int) -> Chunk:
        """At most `limit` entries from `cursor` on ('' is the beginning). The same cursor gives the same.

        SourceUnreadable, SourceBusy, StorageUnavailable."""


class InlineSource:
    """The items that stand in the request."""

    def __init__(self, items: Sequence[BatchItemRequest]) -> None:
        self._items = items

    def read(self, cursor: str, limit: int) -> Chunk:
        first = int(cursor or 0)
        entries = [Entry(value=item) for item in self._items[first : first + limit]]
        return Chunk(entries, _further(first + limit, len(self._items)))


class MatrixSource:
    """Each model with each spec. Without specs each has that of the defaults, and its own id as custom_id."""

    def __init__(self, models: Sequence[str], specs: Sequence[NamedSpec]) -> None:
        self._models = models
        self._specs = specs

    def read(self, cursor: str, limit: int) -> Chunk:
        first, each = int(cursor or 0), max(1, len(self._specs))
        total = len(self._models) * each
        entries = []
        for index in range(first, min(first + limit, total)):
            model_id = self._models[index // each]
            spec = self._specs[index % each : index % each + 1]
            entries += [Entry(value=item) for item in with_specs(model_id, model_id, spec)]
        return Chunk(entries, _further(first + limit, total))


class FileSource:
    """A JSONL file in storage. Lines that are no JSON objects become faults; the file as a whole is refused
    when it cannot be cut into lines."""

    def __init__(self, read: ReadRange, *, max_line_bytes: int) -> None:
        self._read = read
        self._max_line_bytes = max_line_bytes

    def read(self, cursor: str, limit: int) -> Chunk:
        offset, line = map(int, (cursor or "0:0").split(":"))
        wanted = max(_READ_BYTES, self._max_line_bytes + 1)
        data = self._read(offset, wanted)
        if b"\0" in data:
            raise _unreadable(f"the file is no text: there is a zero byte after line {line}")
        entries: list[Entry] = []
        used = 0
        for raw in _lines(data, is_last=len(data) < wanted):
            used += len(raw)
            line += 1
            if len(raw) > self._max_line_bytes:
                raise _unreadable(f"line {line} is longer than {self._max_line_bytes} bytes")
            if text := (raw.removeprefix(_BOM) if line == 1 else raw).strip():
                entries.append(_entry(line, text))
            if len(entries) == limit or used >= PAGE_BYTES:
                break
        at_end = used == len(data) < wanted
        return Chunk(entries, None if at_end else f"{offset + used}:{line}")


class ReadRange(Protocol):
    def __call__(self, start: int, length: int) -> bytes:
        """Bytes of the file; FileNotFoundError, StorageUnavailable."""


class Adoption(Protocol):
    """What the inbox of a project can do for a batch."""

    def names(self, after: str | None, limit: int) -> Sequence[str]:
        """Names of objects in their order."""

    def model(self, name: str) -> str | Problem:
        """The id of the model that the object is, or why it is none."""


class InboxSource:
    """Each object under a prefix of the project's inbox is a model, with each of the specs. The name of the
    object is the custom_id, with the name of the spec behind it where there are specs."""

    def __init__(self, inbox: Adoption, specs: Sequence[NamedSpec]) -> None:
        self._inbox = inbox
        self._specs = specs

    def read(self, cursor: str, limit: int) -> Chunk:
        most = max(1, min(_OBJECTS_AT_ONCE, limit // max(1, len(self._specs))))
        names = self._inbox.names(cursor or None, most)
        entries = [entry for name in names for entry in self._entries(name)]
        return Chunk(entries, names[-1] if len(names) == most else None)

    def _entries(self, name: str) -> list[Entry]:
        found = self._inbox.model(name)
        if isinstance(found, Problem):
            return [Entry(value={"custom_id": name}, problem=found)]
        return [Entry(value=item) for item in with_specs(found, name, self._specs)]


def with_specs(model_id: str, label: str, specs: Sequence[NamedSpec]) -> list[dict[str, object]]:
    """The items of one model."""
    if not specs:
        return [{"custom_id": label, "model_id": model_id}]
    return [
        {"custom_id": f"{label}/{spec.name}", "model_id": model_id, "spec": spec.spec.model_dump(mode="json")}
        for spec in specs
    ]


def source_of(request: BatchRequest, file: ReadRange, inbox: Adoption, *, max_line_bytes: int) -> Source:
    if request.items is not None:
        return InlineSource(request.items)
    if request.models is not None:
        return MatrixSource(request.models, request.specs or ())
    if request.prefix is not None:
        return InboxSource(inbox, request.specs or ())
    return FileSource(file, max_line_bytes=max_line_bytes)


def _lines(data: bytes, *, is_last: bool) -> Iterator[bytes]:
    """Whole lines with their ends. One without an end counts where the file ends there, and where it fills
    all of `data`, being too long."""
    start = 0
    while (end := data.find(b"\n", start)) >= 0:
        yield data[start : end + 1]
        start = end + 1
    if start < len(data) and (is_last or start == 0):
        yield data[start:]


def _further(position: int, total: int) -> str | None:
    return str(position) if position < total else None


def _entry(line: int, text: bytes) -> Entry:
    try:
        value = strict_json.loads(text)
    except strict_json.BadJSON as error:
        return Entry(line=line, problem=problem("bad_json", f"line {line}: {error}"))
    if not isinstance(value, dict):
        fault = f"line {line} is no JSON object"
        return Entry(line=line, problem=problem("invalid_request", fault))
    return Entry(line=line, value=value)


def _unreadable(detail: str) -> SourceUnreadable:
    hint = "an input file is UTF-8 text with one JSON object on each line"
    return SourceUnreadable(problem("bad_batch_input", detail, hint=hint))
