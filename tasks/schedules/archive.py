"""The durable copies of schedules and runs in storage.

A schedule is written at every change that a caller makes, a run when it has got its job, or none, and when
the job has ended. How far a schedule has been worked off follows from its runs (``restoring``).
"""

from __future__ import annotations

from collections.abc import Iterable

from tasks import keys
from tasks.schedules.records import RunRecord, ScheduleRecord
from tasks.storage import Storage

__all__ = ["Archive"]


class Archive:
    """Any method may raise StorageUnavailable."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def keep(self, record: ScheduleRecord) -> None:
        key = keys.schedule_key(record.project, record.id)
        self._storage.put_json(key, record.model_dump(mode="json"))

    def keep_run(self, run: RunRecord) -> None:
        key = keys.schedule_run_key(run.project, run.schedule_id, run.item)
        self._storage.put_json(key, run.model_dump(mode="json"))

    def drop_runs(self, record: ScheduleRecord, items: Iterable[str]) -> None:
        for item in items:
            self._storage.delete(keys.schedule_run_key(record.project, record.id, item))

    def drop(self, project: str, schedule_id: str) -> None:
        """All that is kept of a schedule. The record goes last: as long as it is there, so may be runs."""
        prefix = keys.schedule_prefix(project, schedule_id)
        for key in self._storage.list_keys(f"{prefix}runs/"):
            self._storage.delete(key)
        self._storage.delete(keys.schedule_key(project, schedule_id))
