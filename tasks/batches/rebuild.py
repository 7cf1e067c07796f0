"""Batches after the loss of Redis: those that ended come back as they were, the others begin again.

Beginning again does nothing twice: the ids of jobs are derived from the batch and the item, and a job whose
record was restored is found by its id. So the records of jobs come first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tasks import keys
from tasks.batches.files import BatchFiles
from tasks.batches.store import BatchStore
from tasks.storage import Storage

__all__ = ["Restored", "rebuild_batches"]

_REQUEST = "batch.json"
# What comes of files that are damaged, or gone meanwhile.
_NO_BATCH = (ValueError, LookupError, TypeError, FileNotFoundError)


class Restored(NamedTuple):
    """How many batches were made anew, how many were there, and the keys of which nothing could be made, each
    with the reason."""

    restored: int
    present: int
    unreadable: Mapping[str, str]


def rebuild_batches(store: BatchStore, storage: Storage, project: str) -> Restored:
    """Make the records of the project's batches anew from storage, the oldest first.

    Jobs, models, data sets and input files come before: what is not there is taken for gone. May be repeated.
    RedisError, StorageUnavailable.
    """
    root = keys.batches_prefix(project)
    ids = [
        key.removeprefix(root).removesuffix(f"/{_REQUEST}")
        for key in storage.list_keys(root)
        if key.endswith(f"/{_REQUEST}")
    ]
    missing, unreadable = [], {}
    for batch_id in ids:
        if store.find(batch_id) is None:
            files = BatchFiles(storage, project, batch_id)
            try:
                missing.append((files.created_at(), batch_id, files))
            except _NO_BATCH as error:
                unreadable[f"{root}{batch_id}/{_REQUEST}"] = f"{type(error).__name__}: {error}"[:200]
    restored = 0
    for _, batch_id, files in sorted(missing, key=lambda each: each[:2]):
        try:
            _rebuild(store, project, files)
        except _NO_BATCH as error:
            unreadable[f"{root}{batch_id}/"] = f"{type(error).__name__}: {error}"[:200]
        else:
            restored += 1
    return Restored(restored, len(ids) - restored - len(unreadable), unreadable)


def _rebuild(store: BatchStore, project: str, files: BatchFiles) -> None:
    try:
        ended = files.end()
    except FileNotFoundError:
        store.create(project, files.batch_id, files.request(), created_at=files.created_at())
        store.due_at(files.batch_id, 0)
    else:
        store.restore(ended, project)
