"""The records of Redis made anew from object storage, after Redis was lost with all that was in it.

What lies below ``projects/`` is listed once, page by page, and nothing of it is changed. A record that is
there already stays as it is, so this can be done again, and while the service runs.

    model.json, dataset.json    the record, where its bytes are there too
    result.json                 a job that ended, as it ended
    job.json alone              a job that had not: queued again
    batch.json, schedule.json   after the jobs, by the modules of batches and schedules

Nothing else of Redis is in storage: API keys, limits and pauses of projects, what was said while jobs ran,
the CPU seconds used, uploads that had not been completed.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Generic, Literal, NamedTuple, TypeVar

import redis
from kombu.exceptions import OperationalError
from pydantic import ValidationError

from tasks import keys
from tasks.batches.rebuild import rebuild_batches
from tasks.batches.records import BatchFileRecord
from tasks.batches.store import BatchStore
from tasks.identifiers import is_id
from tasks.messages import NoMessageKey
from tasks.queue import Queue
from tasks.records import DatasetRecord, JobRecord, ModelRecord
from tasks.recordstore import RecordStore
from tasks.schedules.parts import schedule_parts
from tasks.schedules.restoring import restore_schedules
from tasks.settings import Settings
from tasks.storage import Storage
from tasks.store import JobStore
from tasks.usage import Accounts
from tasks.webhooks.notices import WebhookNotices

__all__ = ["KINDS", "Rebuild", "Rebuilt", "Unreadable"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
R = TypeVar("R", ModelRecord, DatasetRecord, BatchFileRecord)

_AT_ONCE = 8
_CHUNK = 64
_NAMED = 100
_ATTEMPT = re.compile(r"a(\d{1,9})")

KINDS = ("models", "datasets", "batch_files", "jobs")
"""The folders of a project of which records are made one by one, in the order they are told in."""

How = Literal["restored", "queued", "present"]


class Unreadable(NamedTuple):
    """An object that no record could be made of, and why not."""

    key: str
    why: str


@dataclass
class Rebuilt:
    """What came of it. `unreadable` names the first hundred of `not_restored`; `others` counts objects of
    kinds that no record is made of, by where they lie."""

    restored: Counter[str] = field(default_factory=Counter)
    present: Counter[str] = field(default_factory=Counter)
    queued: int = 0
    not_restored: int = 0
    unreadable: list[Unreadable] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    def note_all(self, kind: str, restored: int, present: int, unreadable: Mapping[str, str]) -> None:
        self.restored += Counter({kind: restored})
        self.present += Counter({kind: present})
        for key, why in unreadable.items():
            self._note_unreadable(Unreadable(key, why))

    def _note_unreadable(self, outcome: Unreadable) -> None:
        self.not_restored += 1
        if len(self.unreadable) < _NAMED:
            self.unreadable.append(outcome)

    def note(self, found: _Found, outcome: How | Unreadable) -> None:
        if isinstance(outcome, Unreadable):
            self._note_unreadable(outcome)
        elif outcome == "present":
            self.present[found.kind] += 1
        else:
            self.restored[found.kind] += 1
            self.queued += outcome == "queued"


@dataclass
class _Found:
    """What lies in the folder of a resource: names, and the last attempt that left something."""

    project: str
    kind: str
    id: str
    names: set[str] = field(default_factory=set)
    attempt: int = 0

    def add(self, rest: list[str]) -> None:
        if len(rest) == 1:
            self.names.add(rest[0])
        elif match := _ATTEMPT.fullmatch(rest[1] if rest[0] == "progress" else rest[0]):
            self.attempt = max(self.attempt, int(match[1]))


@dataclass(frozen=True)
class _Files(Generic[R]):
    """A kind of files, its records, and how their keys are made."""

    store: RecordStore[R]
    type: type[R]
    key: Callable[[str, str], str]
    record_key: Callable[[str, str], str]


class Rebuild:
    """`run` may raise StorageUnavailable and RedisError; what has been restored by then is whole."""

    def __init__(self, settings: Settings, client: redis.Redis, storage: Storage, queue: Queue) -> None:
        self._storage = storage
        self._queue = queue
        self._jobs = JobStore(client, settings)
        self._accounts = Accounts(client, settings)
        models = RecordStore(client, "model", ModelRecord)
        datasets = RecordStore(client, "dataset", DatasetRecord)
        self._models = _Files(models, ModelRecord, keys.model_key, keys.model_record_key)
        batch_files = RecordStore(client, "batch_file", BatchFileRecord)
        self._datasets = _Files(datasets, DatasetRecord, keys.dataset_key, keys.dataset_record_key)
        self._batch_files = _Files(
            batch_files, BatchFileRecord, keys.batch_file_key, keys.batch_file_record_key
        )
        self._batches = BatchStore(client)
        notices = WebhookNotices(client, settings, queue)
        self._schedules = schedule_parts(settings, client, storage, queue, notices)

    def run(self, project: str | None = None, on_progress: Callable[[int], None] = lambda _: None) -> Rebuilt:
        """Restore what is missing, of one `project` or of all; ValueError for what cannot be one's name.

        `on_progress` is told how many records have been looked at.
        """
        prefix = keys.PROJECTS if project is None else keys.project_prefix(project)
        rebuilt, looked_at = Rebuilt(), 0
        of_jobs: dict[str, set[str]] = {"batches": set(), "schedules": set()}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for some in _chunks(self._found(prefix, rebuilt, of_jobs), _CHUNK):
                for found, outcome in zip(some, pool.map(self._restored, some), strict=True):
                    rebuilt.note(found, outcome)
                looked_at += len(some)
                on_progress(looked_at)
        for name in sorted(of_jobs["batches"]):
            rebuilt.note_all("batches", *rebuild_batches(self._batches, self._storage, name))
        for name in sorted(of_jobs["schedules"]):
            rebuilt.note_all("schedules", *restore_schedules(name, self._storage, self._schedules))
        return rebuilt

    def _found(self, prefix: str, rebuilt: Rebuilt, of_jobs: Mapping[str, set[str]]) -> Iterator[_Found]:
        """The folders of files and jobs, one after the other, as storage lists their keys; `of_jobs` is told
        which projects have what is restored after the jobs."""
        listed = (key.split("/") for key in self._storage.iter_keys(prefix))
        for folder, group in groupby(listed, lambda parts: tuple(parts[1:4])):
            project, kind, resource_id = (*folder, "", "", "")[:3]
            if kind in of_jobs and is_id(project):
                of_jobs[kind].add(project)
                continue
            if kind not in KINDS or not (is_id(project) and is_id(resource_id)):
                rebuilt.others[kind or "projects"] += sum(1 for _ in group)
                continue
            found = _Found(project, kind, resource_id)
            for parts in group:
                found.add(parts[4:])
            yield found

    def _restored(self, found: _Found) -> How | Unreadable:
        if found.kind == "jobs":
            return self._job(found)
        if found.kind == "models":
            return self._file(self._models, found)
        if found.kind == "batch_files":
            return self._file(self._batch_files, found)
        return self._file(self._datasets, found)

    def _file(self, kind: _Files[R], found: _Found) -> How | Unreadable:
        key = kind.record_key(found.project, found.id)
        name, data = key.rpartition("/")[2], kind.key(found.project, found.id)
        if name not in found.names:
            return Unreadable(data, f"there is no {name} beside it")
        if data.rpartition("/")[2] not in found.names:
            return Unreadable(key, "the bytes that it describes are gone")
        record = self._read(key, kind.type, found)
        if isinstance(record, Unreadable):
            return record
        restored = kind.store.restore(found.project, record, place=_place(record))
        self._accounts.restore(found.project, found.id, record.bytes)
        if restored and not self._storage.exists(key):
            # Somebody has removed it meanwhile.
            kind.store.delete(found.project, found.id)
            self._accounts.forget(found.project, found.id)
        return "restored" if restored else "present"

    def _job(self, found: _Found) -> How | Unreadable:
        if self._jobs.find(found.id) is not None:
            return "present"
        ended = "result.json" in found.names
        key = (keys.result_key if ended else keys.job_key)(found.project, found.id)
        if key.rpartition("/")[2] not in found.names:
            return Unreadable(keys.job_prefix(found.project, found.id), "there is no job.json in it")
        record = self._read(key, JobRecord, found)
        if isinstance(record, Unreadable):
            return record
        if record.done != ended:
            return Unreadable(key, f"it is of a job that is {record.state}")
        # Whoever may still run one that had not ended holds the attempt after those that left something.
        before = 0 if ended else found.attempt + 1
        try:
            restored = self._jobs.restore(record, attempts_before=before)
        except ValueError as error:
            return Unreadable(key, f"no job can be made of it: {_first_fault(error)}")
        if not restored:
            return "present"
        if ended:
            return "restored"
        self._announce(record)
        return "queued"

    def _read(self, key: str, type_: type[_Record], found: _Found) -> _Record | Unreadable:
        """The record under `key`, which must be that of its own folder."""
        try:
            record = type_.model_validate_json(self._storage.read(key))
        except FileNotFoundError:
            return Unreadable(key, "it was removed meanwhile")
        except ValidationError as error:
            return Unreadable(key, f"it is no such record: {_first_fault(error)}")
        if (record.project, record.id) != (found.project, found.id):
            return Unreadable(key, "it is the record of something else")
        return record

    def _announce(self, record: JobRecord) -> None:
        try:
            self._queue.enqueue(record.id, queue=record.queue)
        except (OperationalError, OSError, NoMessageKey) as error:
            _log.warning("job %s is left to the reaper to announce: %s", record.id, type(error).__name__)


_Record = TypeVar("_Record", JobRecord, ModelRecord, DatasetRecord, BatchFileRecord)


def _place(record: ModelRecord | DatasetRecord | BatchFileRecord) -> int:
    """Where it stands in lists."""
    return round(record.created_at.timestamp() * 1e6)


def _chunks(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _first_fault(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)[:200]
    fault = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, fault['loc'])) or 'the whole'}: {fault['msg']}"
