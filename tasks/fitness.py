"""Whether this worker can do a job now: there is room on its disk, and the object storage answers.

A worker that cannot takes no job, so that one outage does not use up the attempts of all jobs in the queue;
`tasks.presence` says why.
"""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

from tasks.scratch import discard_leftovers, job_ids
from tasks.settings import Settings
from tasks.storage import IMPATIENT, Storage, StorageUnavailable

__all__ = ["DiskFull", "Fitness", "is_disk_full"]

_log = logging.getLogger(__name__)
# Of the reserve. With less than that left, what failed is taken to have failed for want of room.
_SCARCE = 1 / 8


class DiskFull(OSError):
    """The worker's disk has no room left for the job."""

    def __init__(self) -> None:
        super().__init__(errno.ENOSPC, os.strerror(errno.ENOSPC))


def is_disk_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


class Fitness:
    """Safe to use from many threads."""

    def __init__(self, settings: Settings, storage: Storage | None = None) -> None:
        """`storage` is asked whether it answers, and should not take long."""
        self._scratch = settings.scratch_dir
        self._reserve = settings.scratch_reserve_bytes
        self._storage = storage or Storage(settings, IMPATIENT)
        self._storage_failed = False

    def note(self, error: BaseException) -> None:
        """An attempt ended for this."""
        if isinstance(error, StorageUnavailable):
            self._storage_failed = True

    def why_not(self) -> str | None:
        """Why no job should be taken now; None when one may be."""
        return self._no_room() or self._no_storage()

    @property
    def disk_is_full(self) -> bool:
        """Whatever fails now, it may be for want of room."""
        return _free(self._scratch) < self._reserve * _SCARCE

    def _no_room(self) -> str | None:
        if _free(self._scratch) >= self._reserve:
            return None
        # Finished steps of jobs that wait for their next attempt save time, where there is room for them.
        for job_id in job_ids(self._scratch):
            discard_leftovers(self._scratch, job_id)
        free = _free(self._scratch)
        if free >= self._reserve:
            return None
        return f"the disk is full: {free} bytes are free for jobs, and {self._reserve} are to be"

    def _no_storage(self) -> str | None:
        if not self._storage_failed:
            return None
        try:
            self._storage.ready()
        except (StorageUnavailable, FileNotFoundError) as error:
            return f"the object storage does not answer: {error}"
        self._storage_failed = False
        _log.info("the object storage answers again")
        return None


def _free(folder: Path) -> int:
    """Bytes, and none where no file can be made any more. The folder itself may be still to be made."""
    while not folder.exists():
        folder = folder.parent
    found = os.statvfs(folder)
    return 0 if found.f_files and not found.f_favail else found.f_bavail * found.f_frsize
