"""What projects use, counted as it is used: bytes stored, CPU seconds of jobs, requests.

Bytes are counted under the id of what has them, so counting the same thing twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import redis

from featherweight.resources import Usage
from tasks.identifiers import check_name
from tasks.limits import Pauses, ProjectLimits
from tasks.recordstore import checked, text
from tasks.scripts import load_scripts
from tasks.settings import Settings

__all__ = ["BURST_S", "Accounts", "CpuUsedUp", "StorageFull", "Token"]

# How many seconds' worth of requests may be sent at once.
BURST_S = 2.0

_KINDS = {"mdl": "models", "ds": "datasets", "upl": "uploads", "job": "job_files"}


class StorageFull(Exception):
    """The project has no room left for so many bytes. The sentence says how many it has and may have."""


class CpuUsedUp(Exception):
    """The project's jobs used as many CPU seconds as they may; `again_in_s` until that changes."""

    def __init__(self, used: float, limit: int, again_in_s: float) -> None:
        super().__init__(f"the project's jobs used {used:.0f} of {limit} CPU seconds in the last 24 hours")
        self.again_in_s = again_in_s


class Token(NamedTuple):
    """Whether a request may be served, how many more may at once, and in how many seconds the next."""

    taken: bool
    left: int
    next_in_s: float


class Accounts:
    """Any method may raise redis.RedisError. Safe to use from many threads."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._redis = client
        self._settings = settings
        self._limits = ProjectLimits(client, settings)
        self._pauses = Pauses(client)

    def keep(self, project: str, resource_id: str, size: int, *, instead_of: str = "") -> None:
        """`resource_id` has `size` bytes from now on, and `instead_of` none; StorageFull."""
        if not self._run("keep", check_name(project), checked(resource_id), size, instead_of):
            raise self._full(project, size)

    def forget(self, project: str, resource_id: str) -> None:
        """`resource_id` has no bytes any more."""
        self._run("keep", check_name(project), checked(resource_id), 0, "")

    def restore(self, project: str, resource_id: str, size: int) -> None:
        """`resource_id` has `size` bytes, whether or not the project may store so many."""
        self._run("count", check_name(project), checked(resource_id), size)

    def check_room(self, project: str, size: int) -> None:
        """StorageFull when `size` bytes would be too many now. Nothing is set aside."""
        usage = self.usage(project)
        if usage.limits.stored_bytes and usage.stored_bytes + size > usage.limits.stored_bytes:
            raise self._full(project, size)

    def charge(self, project: str, cpu_seconds: float) -> None:
        """A job of the project has used so many CPU seconds."""
        if cpu_seconds > 0:
            self._run("charge", check_name(project), f"{cpu_seconds:.6f}")

    def check_jobs(self, project: str) -> None:
        """Whether a job may be submitted: CpuUsedUp, and StorageFull when no byte is left for its files."""
        usage, again_in_s = self._usage(project)
        most = usage.limits.cpu_seconds_per_day
        if most and usage.cpu_seconds >= most:
            raise CpuUsedUp(usage.cpu_seconds, most, again_in_s)
        if usage.limits.stored_bytes and usage.stored_bytes >= usage.limits.stored_bytes:
            raise self._full(project, 1)

    def take_token(self, project: str, per_second: float) -> Token:
        """One request of the `per_second` that the project may send, BURST_S times as many at once."""
        most = max(1.0, BURST_S * per_second)
        taken, left, seconds = self._run("take_token", check_name(project), per_second, most)
        return Token(bool(taken), int(left), float(text(seconds)))

    def usage(self, project: str) -> Usage:
        return self._usage(project)[0]

    def _usage(self, project: str) -> tuple[Usage, float]:
        """And in how many seconds the first CPU seconds will be forgotten."""
        flat, running, queued, cpu, again_in_s = self._run("usage", check_name(project))
        stored = {text(kind): int(value) for kind, value in zip(flat[::2], flat[1::2], strict=True)}
        usage = Usage(
            project=project,
            stored_bytes=sum(stored.values()),
            stored={name: stored.get(kind, 0) for kind, name in _KINDS.items()},
            running_jobs=int(running),
            queued_jobs=int(queued),
            cpu_seconds=round(float(text(cpu)), 3),
            paused=self._pauses.since(project) is not None,
            limits=self._limits.get(project),
        )
        return usage, float(text(again_in_s))

    def _full(self, project: str, size: int) -> StorageFull:
        usage = self.usage(project)
        stored, most = usage.stored_bytes, usage.limits.stored_bytes
        return StorageFull(f"the project stores {stored} of {most} bytes: {size} more are too many")

    def _run(self, script: str, *args: str | float) -> Any:
        return self._scripts[script](keys=[], args=list(args))

    @cached_property
    def _scripts(self) -> Mapping[str, Any]:
        return load_scripts(self._redis, self._settings)
