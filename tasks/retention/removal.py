"""Taking a model, a data set or a job away: first from everybody's sight, then from storage.

The record goes in one step of Redis, which also notes what is to be removed in ``fw:removing``. Then the
bytes go, those first from which the record could be made again, and with the last of them the note. A process
that is killed in between leaves the note: the sweeper finishes it. So nothing half removed is ever shown.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any, cast

import redis

from featherweight.resources import Kind
from tasks import keys
from tasks.filekinds import KINDS
from tasks.identifiers import check_name
from tasks.locks import Busy, held
from tasks.records import JobRecord
from tasks.recordstore import NotFound, checked, text
from tasks.scripts import load_scripts
from tasks.settings import Settings
from tasks.storage import Storage, StorageUnavailable
from tasks.store import Conflict, JobStore
from tasks.usage import Accounts

__all__ = ["REMOVING", "Removal"]

REMOVING = "fw:removing"

_log = logging.getLogger(__name__)


class Removal:
    """Any method may raise redis.RedisError. Safe to use from many threads."""

    def __init__(self, settings: Settings, client: redis.Redis, storage: Storage) -> None:
        self._settings = settings
        self._redis = client
        self._storage = storage
        self._jobs = JobStore(client, settings)
        self._accounts = Accounts(client, settings)

    def remove_file(self, kind: Kind, project: str, resource_id: str) -> bool:
        """Remove a model or data set; False when storage is away, and its bytes go later.

        NotFound; Conflict (resource_in_use) while somebody needs it.
        """
        answer = self._run("remove_file", kind, check_name(project), _known(resource_id))
        _check(answer, resource_id)
        return self._finished(f"{kind}/{project}/{resource_id}")

    def remove_job(self, project: str, job_id: str) -> bool:
        """Remove a job that has ended, with all it made; False when storage is away, and its bytes go later.

        NotFound; Conflict: job_not_done, resource_in_use.
        """
        _check(self._run("remove_job", check_name(project), _known(job_id)), job_id)
        return self._finished(f"job/{project}/{job_id}")

    def expire_artifacts(self, record: JobRecord) -> bool:
        """Remove the files that a job made, and its logs, but not its record; False when it is not settled
        yet or somebody needs them. StorageUnavailable: they are shown to nobody, and it can be done again."""
        if not self._run("expire_artifacts", record.project, record.id):
            return False
        record = self._jobs.get(record.project, record.id)
        self._storage.put_json(keys.result_key(record.project, record.id), record.model_dump(mode="json"))
        kept = {keys.job_key(record.project, record.id), keys.result_key(record.project, record.id)}
        for key in self._storage.list_keys(keys.job_prefix(record.project, record.id)):
            if key not in kept:
                self._storage.delete(key)
        self._accounts.forget(record.project, record.id)
        self._jobs.artifacts_removed(record.id)
        return True

    def finish(self, limit: int) -> int:
        """Remove the bytes of at most `limit` of what was taken away and is not gone yet, the oldest first;
        how many are done. StorageUnavailable."""
        names = cast("list[bytes]", self._redis.zrange(REMOVING, 0, limit - 1))
        return sum(self._finish(text(name)) for name in names)

    def clear(self, kind: Kind, project: str, resource_id: str) -> None:
        """Finish what was begun under this id, for who holds the lock ``adopt:<id>`` and is about to use it
        again. StorageUnavailable."""
        name = f"{kind}/{project}/{resource_id}"
        if self._redis.zscore(REMOVING, name) is not None:
            self._erase(name)

    # Inside

    def _finished(self, name: str) -> bool:
        try:
            return self._finish(name)
        except StorageUnavailable as error:
            _log.warning("%s is removed later: %s", name, error)
            return False

    def _finish(self, name: str) -> bool:
        # An id made of its object may come back; no other does.
        with suppress(Busy), held(self._redis, f"adopt:{name.rpartition('/')[2]}"):
            if self._redis.zscore(REMOVING, name) is not None:
                self._erase(name)
            return True
        return False

    def _erase(self, name: str) -> None:
        kind, project, resource_id = name.split("/")
        if kind == "job":
            # Without these two nobody takes what is left for a job.
            self._storage.delete(keys.job_key(project, resource_id))
            self._storage.delete(keys.result_key(project, resource_id))
            self._storage.delete_prefix(keys.job_prefix(project, resource_id))
        else:
            found = KINDS[cast("Kind", kind)]
            self._storage.delete(found.record_key(project, resource_id))
            self._storage.delete(found.key(project, resource_id))
        self._accounts.forget(project, resource_id)
        self._redis.zrem(REMOVING, name)

    def _run(self, script: str, *args: str) -> Any:
        return self._scripts[script](keys=[], args=list(args))

    @cached_property
    def _scripts(self) -> Mapping[str, Any]:
        return load_scripts(self._redis, self._settings)


def _known(resource_id: str) -> str:
    try:
        return checked(resource_id)
    except ValueError:
        raise NotFound(resource_id) from None


def _check(answer: Any, resource_id: str) -> None:
    outcome, *users = (text(word) for word in answer)
    if outcome == "missing":
        raise NotFound(resource_id)
    if outcome == "unfinished":
        raise Conflict("job_not_done", f"the job {resource_id} has not ended, or was not put away yet")
    if outcome == "used":
        raise Conflict("resource_in_use", f"{resource_id} is needed by {', '.join(sorted(users))}")
