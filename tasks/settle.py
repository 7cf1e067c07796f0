"""After a job has ended: its result beside its request in storage, and nothing else left of it.

It works from the committed record alone and can be done again by anybody, any number of times.
"""

from __future__ import annotations

from tasks import keys
from tasks.records import JobRecord
from tasks.storage import Storage
from tasks.store import JobStore

__all__ = ["settle", "withdraw"]

# Beside the artifacts: of an attempt that brought none too, for whoever asks why.
_LOG = "log.txt"


def settle(store: JobStore, storage: Storage, record: JobRecord) -> None:
    """Write ``result.json`` and remove what the committed record does not name. StorageUnavailable."""
    storage.put_json(keys.result_key(record.project, record.id), record.model_dump(mode="json"))
    kept = {keys.job_key(record.project, record.id), keys.result_key(record.project, record.id)}
    committed = keys.attempt_prefix(record.project, record.id, record.attempt)
    kept |= {f"{committed}{name}" for name in (_LOG, *(artifact.name for artifact in record.artifacts))}
    for key in storage.list_keys(keys.job_prefix(record.project, record.id)):
        if key not in kept:
            storage.delete(key)
    store.settled(record.id)


def withdraw(store: JobStore, storage: Storage, job_id: str, attempt: int) -> None:
    """Remove what an attempt uploaded that has lost the job. StorageUnavailable."""
    record = store.find(job_id)
    if record is None:
        return
    if record.done:
        settle(store, storage, record)
    elif record.attempt != attempt or record.lease_until is None:
        storage.delete_prefix(keys.attempt_prefix(record.project, record.id, attempt))
