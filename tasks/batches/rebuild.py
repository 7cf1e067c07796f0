"""Batches after the loss of Redis: those that ended come back as they were, the others begin again.

Beginning again does nothing twice: the ids of jobs are derived from the batch and the item, and a job whose
record was restored is found by its id. So the records of jobs come first.
"""

from __future__ import annotations

from tasks import keys
from tasks.batches.files import BatchFiles
from tasks.batches.store import BatchStore
from tasks.storage import Storage

__all__ = ["rebuild_batches"]

_REQUEST = "batch.json"


def rebuild_batches(store: BatchStore, storage: Storage, project: str) -> int:
    """Make the records of the project's batches anew from storage, the oldest first; how many were missing.

    Jobs, models, data sets and input files come before: what is not there is taken for gone. May be repeated.
    RedisError, StorageUnavailable.
    """
    root = keys.batches_prefix(project)
    ids = [
        key.removeprefix(root).removesuffix(f"/{_REQUEST}")
        for key in storage.list_keys(root)
        if key.endswith(f"/{_REQUEST}")
    ]
    missing = [BatchFiles(storage, project, batch_id) for batch_id in ids if store.find(batch_id) is None]
    for files in sorted(missing, key=BatchFiles.created_at):
        _rebuild(store, project, files)
    return len(missing)


def _rebuild(store: BatchStore, project: str, files: BatchFiles) -> None:
    try:
        ended = files.end()
    except FileNotFoundError:
        store.create(project, files.batch_id, files.request(), created_at=files.created_at())
        store.due_at(files.batch_id, 0)
    else:
        store.restore(ended, project)
