"""What a project may use, as the views ask for it: refusals are problems."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import ProblemError
from service.services import Services
from tasks.store import QueueFull
from tasks.usage import CpuUsedUp, StorageFull

__all__ = ["check_room", "keep", "place_in_queue"]

# Jobs leave a queue more slowly than requests are answered.
_QUEUE_MOVES_S = 15


def keep(app: Services, project: str, resource_id: str, size: int, *, instead_of: str = "") -> None:
    """Count the bytes of a resource, and those of another not any more; storage_quota_exceeded."""
    try:
        app.accounts.keep(project, resource_id, size, instead_of=instead_of)
    except StorageFull as error:
        raise _no_room(error) from None


def check_room(app: Services, project: str, size: int) -> None:
    """storage_quota_exceeded when `size` bytes more would be too many: asked before they are read."""
    try:
        app.accounts.check_room(project, size)
    except StorageFull as error:
        raise _no_room(error) from None


@contextmanager
def place_in_queue(app: Services, project: str, job_id: str) -> Iterator[None]:
    """Around the making of a job: too_many_queued_jobs, cpu_quota_exceeded, storage_quota_exceeded."""
    try:
        # A job that an earlier try has made is not refused to the next one.
        if app.jobs.find(job_id) is None:
            app.accounts.check_jobs(project)
        yield
    except StorageFull as error:
        raise _no_room(error) from None
    except CpuUsedUp as error:
        again_in_s = max(1, math.ceil(error.again_in_s))
        raise ProblemError(
            "cpu_quota_exceeded", str(error), headers={"Retry-After": str(again_in_s)}
        ) from None
    except QueueFull:
        raise ProblemError(
            "too_many_queued_jobs",
            "the project has as many jobs queued as it may have",
            headers={"Retry-After": str(_QUEUE_MOVES_S)},
        ) from None


def _no_room(error: StorageFull) -> ProblemError:
    return ProblemError(
        "storage_quota_exceeded",
        str(error),
        hint="GET /v1/usage says what takes the room; remove what is not needed any more",
    )
