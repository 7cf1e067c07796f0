"""After a job has ended: its result beside its request in storage, nothing else left of it, and whoever wants
to know told.

It works from the committed record alone and can be done again by anybody, any number of times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tasks import keys
from tasks.records import JobRecord
from tasks.storage import Storage
from tasks.store import JobStore

__all__ = ["Listener", "Settler"]

# Beside the artifacts: of an attempt that brought none too, for whoever asks why.
_LOG = "log.txt"


class Listener(Protocol):
    def job_ended(self, record: JobRecord) -> None:
        """A job has ended, however it did, and its ``result.json`` is stored.

        Called at least once for every job, by any worker, maybe long after the end and again after that: it
        must come to the same every time. It has to be quick, and may raise RedisError or StorageUnavailable
        to be called again.
        """


class Settler:
    """`listeners` are told of every job that has ended."""

    def __init__(self, store: JobStore, storage: Storage, listeners: Sequence[Listener] = ()) -> None:
        self._store = store
        self._storage = storage
        self._listeners = tuple(listeners)

    def settle(self, record: JobRecord) -> None:
        """Write ``result.json``, remove what the committed record does not name, and tell the listeners.

        StorageUnavailable, RedisError: the job stays in ``fw:unsettled``, and the reaper tries again.
        """
        self._storage.put_json(keys.result_key(record.project, record.id), record.model_dump(mode="json"))
        kept = {keys.job_key(record.project, record.id), keys.result_key(record.project, record.id)}
        committed = keys.attempt_prefix(record.project, record.id, record.attempt)
        kept |= {f"{committed}{name}" for name in (_LOG, *(artifact.name for artifact in record.artifacts))}
        for key in self._storage.list_keys(keys.job_prefix(record.project, record.id)):
            if key not in kept:
                self._storage.delete(key)
        if record.attempts:
            # A worker that was killed has left what it was sending, and one whose request got no answer what
            # that began.
            self._storage.abort_uploads(keys.job_prefix(record.project, record.id))
        for listener in self._listeners:
            listener.job_ended(record)
        self._store.settled(record.id)

    def withdraw(self, job_id: str, attempt: int) -> None:
        """Remove what an attempt uploaded that has lost the job. StorageUnavailable, RedisError."""
        record = self._store.find(job_id)
        if record is None:
            return
        if record.done:
            self.settle(record)
        elif record.attempt != attempt or record.lease_until is None:
            prefix = keys.attempt_prefix(record.project, record.id, attempt)
            self._storage.delete_prefix(prefix)
            self._storage.abort_uploads(prefix)
