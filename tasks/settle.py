"""After a job has ended: its result beside its request in storage, and nothing else left of it.

It works from the committed record alone and can be done again by anybody, any number of times.
"""

from __future__ import annotations

from featherweight.job import JobState
from tasks import keys
from tasks.records import JobRecord
from tasks.storage import Storage
from tasks.store import JobStore

__all__ = ["settle", "withdraw"]

# Of an attempt that brought no result the log is kept, for whoever asks why.
_KEPT_WITHOUT_RESULT = "log.txt"


def settle(store: JobStore, storage: Storage, record: JobRecord) -> None:
    """Write ``result.json`` and remove what uncommitted attempts uploaded. StorageUnavailable."""
    storage.put_json(keys.result_key(record.project, record.id), record.model_dump(mode="json"))
    kept = {keys.job_key(record.project, record.id), keys.result_key(record.project, record.id)}
    committed = keys.attempt_prefix(record.project, record.id, record.attempt)
    for key in storage.list_keys(keys.job_prefix(record.project, record.id)):
        if key not in kept and not _is_kept(record, key.removeprefix(committed), key):
            storage.delete(key)
    store.settled(record.id)


def _is_kept(record: JobRecord, name: str, key: str) -> bool:
    if name == key:
        return False
    return record.state == JobState.SUCCEEDED or name == _KEPT_WITHOUT_RESULT


def withdraw(store: JobStore, storage: Storage, job_id: str, attempt: int) -> None:
    """Remove what an attempt uploaded that has lost the job. StorageUnavailable."""
    record = store.find(job_id)
    if record is None:
        return
    if record.done:
        settle(store, storage, record)
    elif record.attempt != attempt or record.lease_until is None:
        storage.delete_prefix(keys.attempt_prefix(record.project, record.id, attempt))
