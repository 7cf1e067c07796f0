"""What a project may use: the limits of each, and the defaults of all; and whether it is paused.

The limits of a project lie in the hash ``fw:limits:<project>``, where the job store's scripts read them
too; a field that is not there has the default of the settings. 0 is no limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import redis

from featherweight.resources import Limits
from tasks.identifiers import check_name
from tasks.recordstore import text
from tasks.settings import Settings

__all__ = ["Pauses", "ProjectLimits", "defaults"]

_PAUSED = "fw:paused"


def defaults(settings: Settings) -> Limits:
    """The limits of a project that has none of its own."""
    return Limits(
        stored_bytes=settings.project_stored_bytes,
        running_jobs=settings.project_running_jobs,
        queued_jobs=settings.project_queued_jobs,
        cpu_seconds_per_day=settings.project_cpu_seconds_per_day,
        requests_per_second=settings.project_requests_per_second,
    )


class ProjectLimits:
    """Reads and changes them. Safe to use from many threads."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._redis = client
        self._defaults = defaults(settings)

    def get(self, project: str) -> Limits:
        own = cast("dict[bytes, bytes]", self._redis.hgetall(_key(project)))
        return Limits.model_validate(
            {**self._defaults.model_dump(), **{text(name): text(value) for name, value in own.items()}}
        )

    def change(self, project: str, changes: Mapping[str, float | None]) -> Limits:
        """Set the limits named, None for the default; the limits there are now. ValueError."""
        known = set(Limits.model_fields)
        if unknown := set(changes) - known:
            raise ValueError(f"there is no limit {', '.join(sorted(unknown))}")
        merged: dict[str, Any] = {**self._defaults.model_dump(), **changes}
        Limits.model_validate({name: value for name, value in merged.items() if value is not None})
        pipeline = self._redis.pipeline()
        for name, value in changes.items():
            if value is None:
                pipeline.hdel(_key(project), name)
            else:
                pipeline.hset(_key(project), name, f"{value:.17g}")
        pipeline.execute()
        return self.get(project)


class Pauses:
    """Projects of which no job is started. They lie in the hash ``fw:paused``, by since when."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def since(self, project: str) -> datetime | None:
        """When the project was paused; None when it is not."""
        stored = cast("bytes | None", self._redis.hget(_PAUSED, check_name(project)))
        return None if stored is None else datetime.fromtimestamp(float(stored), UTC)

    def pause(self, project: str) -> None:
        """From now on none of its jobs is started; those that run go on. A paused one stays as it is."""
        seconds, micros = self._redis.time()
        self._redis.hsetnx(_PAUSED, check_name(project), f"{seconds}.{micros:06}")

    def resume(self, project: str) -> bool:
        """Its jobs may be started again; False when it was not paused."""
        return bool(self._redis.hdel(_PAUSED, check_name(project)))


def _key(project: str) -> str:
    return f"fw:limits:{check_name(project)}"
