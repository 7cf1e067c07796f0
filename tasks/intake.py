"""How a stored file becomes a model or a data set, whoever stored it: sniffed, judged, counted, recorded."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import redis

from featherweight.problem import Problem, problem
from featherweight.resources import Kind
from tasks.filekinds import FileKind, R
from tasks.gate import Gate, GateBusy, GateFailed, GateRefused
from tasks.leftovers import Leftovers
from tasks.recordstore import RecordStore
from tasks.settings import Settings
from tasks.sniffing import UnknownFileType, sniff
from tasks.storage import Storage
from tasks.submission import NO_ROOM_HINT
from tasks.usage import Accounts, StorageFull

__all__ = ["FileRefused", "Intake", "no_room", "sniffed"]

_log = logging.getLogger(__name__)

# Memory, processes or room on the disk come back more slowly than a place among those who are judged.
_MACHINE_RECOVERS_S = 30


class FileRefused(Exception):
    """A file that becomes no model and no data set; `retry_after_s` for those that may later."""

    def __init__(self, problem: Problem, retry_after_s: int | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.retry_after_s = retry_after_s


def no_room(error: StorageFull) -> FileRefused:
    """storage_quota_exceeded."""
    return FileRefused(problem("storage_quota_exceeded", str(error), hint=NO_ROOM_HINT))


def sniffed(kind: Kind, head: bytes) -> str:
    """The format of a file that begins with `head`; FileRefused with unknown_file_type."""
    try:
        return sniff(kind, head)
    except UnknownFileType as error:
        raise FileRefused(problem("unknown_file_type", str(error), hint=error.hint)) from None


class Intake:
    """Makes the records of files, and removes them. Safe to use from many threads.

    `leftovers` are those of the same storage, for whoever stores the files.
    """

    def __init__(
        self,
        settings: Settings,
        client: redis.Redis,
        storage: Storage,
        *,
        gate: Gate | None = None,
        accounts: Accounts | None = None,
    ) -> None:
        self._redis = client
        self._storage = storage
        self._gate = gate or Gate(settings, storage)
        self._accounts = accounts or Accounts(client, settings)
        self.leftovers = Leftovers(client, storage)

    def records(self, kind: FileKind[R]) -> RecordStore[R]:
        return RecordStore(self._redis, kind.name, kind.record)

    def adopt(
        self,
        kind: FileKind[R],
        project: str,
        resource_id: str,
        *,
        filename: str,
        head: bytes,
        size: int,
        sha256: str,
        instead_of: str = "",
    ) -> R:
        """Record a file that lies in storage under this kind's key, whole and checked.

        The record goes beside it first: that copy outlives Redis. `instead_of` is what its bytes counted
        for until now. FileRefused with unknown_file_type, the gate's codes, storage_quota_exceeded and
        overloaded; StorageUnavailable; redis.RedisError. No part of a record is left then, and the file is
        the caller's to remove.
        """
        with self._whole_or_not_at_all(kind, project, resource_id):
            format_ = sniffed(kind.name, head)
            gated = self._admitted(kind.key(project, resource_id), kind.name, size)
            try:
                self._accounts.keep(project, resource_id, size, instead_of=instead_of)
            except StorageFull as error:
                raise no_room(error) from None
            record = kind.record(
                id=resource_id,
                filename=filename,
                format=format_,
                bytes=size,
                sha256=sha256,
                created_at=datetime.now(UTC),
                project=project,
                key=kind.key(project, resource_id),
                gated=gated,
                **kind.of_format(format_),
            )
            self._storage.put_json(kind.record_key(project, resource_id), record.model_dump(mode="json"))
            self.records(kind).put(project, record)
        return record

    @contextmanager
    def _whole_or_not_at_all(self, kind: FileKind[Any], project: str, resource_id: str) -> Iterator[None]:
        try:
            yield
        except Exception:
            self.leftovers.discard(kind.record_key(project, resource_id))
            # Redis may have kept what it did not answer to, and so may an earlier try of the same request.
            with suppress(redis.RedisError):
                self.records(kind).delete(project, resource_id)
                self._accounts.forget(project, resource_id)
            raise

    def _admitted(self, key: str, kind: Kind, size: int) -> int | None:
        try:
            return self._gate.admit(key, kind, size)
        except GateRefused as error:
            raise FileRefused(error.problem) from None
        except GateBusy:
            raise FileRefused(problem("overloaded", "too many files are being judged; try again")) from None
        except GateFailed as error:
            # What the machine said is for the log.
            _log.error("no file can be judged here: %s", error)
            refused = problem("overloaded", "files cannot be judged at the moment; nothing was kept")
            raise FileRefused(refused, _MACHINE_RECOVERS_S) from None
