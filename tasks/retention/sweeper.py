"""The sweeper: removes what has reached the age its project keeps it to.

It walks through the lists of all projects, a bounded share at a time, and begins anew at the end, so a limit
that was changed holds for what is there already. Where it is stands in the hash ``fw:retention``; whoever has
the next turn goes on from there. What it finds due is removed in steps that can be repeated
(``tasks.retention.removal``), so it may be killed at any point. An operator can stop it, which holds for all
workers until it is resumed.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

import redis
from pydantic import BaseModel

from featherweight.resources import Kind, Limits
from tasks.filekinds import KINDS
from tasks.intake import Intake
from tasks.limits import ProjectLimits
from tasks.recordstore import NotFound, text
from tasks.retention.removal import REMOVING, Removal
from tasks.settings import Settings
from tasks.storage import Storage
from tasks.store import Conflict, JobStore
from tasks.uploads import Uploads

__all__ = ["Progress", "Sweeper"]

_STATE = "fw:retention"
_BUDGET_S = 1.5
_LOOKED_AT_ONCE = 1000
_PAGE = 200
_FINISHED_AT_ONCE = 50
# Places in lists that are a time in microseconds are above this.
_MICROSECONDS = 1e14

_log = logging.getLogger(__name__)

_LISTS = ("jobs", "models", "datasets")


class Progress(BaseModel):
    """How far the sweeper is. `project` and `list` are where it goes on, null between two rounds; a round is
    one walk through everything. `removed` counts since the beginning, by what it was; `removing` is how many
    things are gone from sight whose bytes are not, `removing_since` the oldest of them."""

    running: bool
    stopped_at: datetime | None = None
    project: str | None = None
    list: str | None = None
    round_started_at: datetime | None = None
    round_ended_at: datetime | None = None
    turned_at: datetime | None = None
    removed: dict[str, int]
    removing: int
    removing_since: datetime | None = None


class _Place(NamedTuple):
    """The list that comes next, and where in it; no project where a round begins."""

    project: str = ""
    list: str = _LISTS[0]
    score: str = "-inf"


class Sweeper:
    """Any method may raise redis.RedisError. Safe to use from many threads and processes."""

    def __init__(self, settings: Settings, client: redis.Redis, storage: Storage) -> None:
        self._redis = client
        self._limits = ProjectLimits(client, settings)
        self._jobs = JobStore(client, settings)
        self._intake = Intake(settings, client, storage)
        self._removal = Removal(settings, client, storage)
        self._uploads = Uploads(settings, client, storage)

    def turn(self) -> None:
        """Do a share of what is due. StorageUnavailable, after which the same is still due."""
        if self._redis.hexists(_STATE, "stopped_at"):
            return
        self._intake.leftovers.sweep()
        self._uploads.sweep()
        self._removal.finish(_FINISHED_AT_ONCE)
        self._walk(time.monotonic() + _BUDGET_S)
        self._redis.hset(_STATE, "turned_at", self._now())

    def stop(self) -> None:
        """Remove nothing more, in any worker, until it is resumed."""
        self._redis.hsetnx(_STATE, "stopped_at", str(self._now()))

    def resume(self) -> None:
        self._redis.hdel(_STATE, "stopped_at")

    def progress(self) -> Progress:
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hgetall(_STATE)
        pipeline.zcard(REMOVING)
        pipeline.zrange(REMOVING, 0, 0, withscores=True)
        stored, removing, oldest = pipeline.execute()
        fields = {text(name): text(value) for name, value in stored.items()}
        removed = {
            name.partition(":")[2]: int(fields[name]) for name in fields if name.startswith("removed:")
        }
        times = {name: _time(value) for name, value in fields.items() if name.endswith("_at")}
        return Progress(
            running="stopped_at" not in fields,
            project=fields.get("project") or None,
            list=fields.get("list") if fields.get("project") else None,
            removed=dict(sorted(removed.items())),
            removing=removing,
            removing_since=_time(oldest[0][1]) if oldest else None,
            **times,
        )

    # Inside

    def _walk(self, deadline: float) -> None:
        left = _LOOKED_AT_ONCE
        place = self._place()
        if not place.project:
            self._redis.hset(_STATE, "round_started_at", self._now())
        while left > 0:
            following, looked = self._step(place, deadline)
            left -= max(1, looked)
            self._go_to(following)
            if not following.project:
                self._redis.hset(_STATE, "round_ended_at", self._now())
                return
            place = following
            if time.monotonic() > deadline:
                return

    def _step(self, place: _Place, deadline: float) -> tuple[_Place, int]:
        """Look at a page of the list; where to go on, and how many were looked at."""
        if not place.project:
            return self._after(place), 0
        limits = self._limits.get(place.project)
        age = _shortest(limits, place.list)
        if not age:
            return self._after(place), 0
        now = self._now()
        index = f"fw:{place.list}:{place.project}"
        rows = cast(
            "list[tuple[bytes, float]]",
            self._redis.zrangebyscore(index, place.score, "+inf", start=0, num=_PAGE, withscores=True),
        )
        for looked, (member, score) in enumerate(rows, start=1):
            # Nothing that follows is older.
            if score > _MICROSECONDS and score / 1e6 > now - age:
                return self._after(place), looked
            self._look(place, text(member), limits, now)
            if time.monotonic() > deadline:
                return place._replace(score=f"({score:.17g}"), looked
        if len(rows) < _PAGE:
            return self._after(place), len(rows)
        return place._replace(score=f"({rows[-1][1]:.17g}"), len(rows)

    def _look(self, place: _Place, subject: str, limits: Limits, now: float) -> None:
        # Needed by somebody, gone meanwhile, or not settled yet: it is looked at again in the next round.
        with suppress(Conflict, NotFound):
            if place.list == "jobs":
                self._look_at_job(place.project, subject, limits, now)
            else:
                kind = cast("Kind", place.list.removesuffix("s"))
                self._look_at_file(kind, place.project, subject, limits, now)

    def _look_at_job(self, project: str, job_id: str, limits: Limits, now: float) -> None:
        ended_at, removed = self._jobs.ended(job_id)
        if ended_at is None:
            return
        if limits.jobs_ttl_s and ended_at + limits.jobs_ttl_s <= now:
            self._removal.remove_job(project, job_id)
            self._count("jobs", job_id)
            return
        is_due = limits.artifacts_ttl_s and ended_at + limits.artifacts_ttl_s <= now and not removed
        if is_due and self._removal.expire_artifacts(self._jobs.get(project, job_id)):
            self._count("artifacts", job_id)

    def _look_at_file(self, kind: Kind, project: str, resource_id: str, limits: Limits, now: float) -> None:
        created_at = self._intake.records(KINDS[kind]).get(project, resource_id).created_at
        if created_at.timestamp() + _shortest(limits, f"{kind}s") <= now:
            self._removal.remove_file(kind, project, resource_id)
            self._count(f"{kind}s", resource_id)

    def _count(self, what: str, subject: str) -> None:
        _log.info("%s: %s reached the age its project keeps them to", subject, what)
        self._redis.hincrby(_STATE, f"removed:{what}", 1)

    def _place(self) -> _Place:
        found = cast("list[bytes | None]", self._redis.hmget(_STATE, ["project", "list", "score"]))
        project, list_, score = (None if value is None else text(value) for value in found)
        if not project or list_ not in _LISTS or not score:
            return _Place()
        return _Place(project, list_, score)

    def _go_to(self, place: _Place) -> None:
        self._redis.hset(_STATE, mapping=cast("dict[Any, Any]", place._asdict()))

    def _after(self, place: _Place) -> _Place:
        """The list after this one; no project after the last."""
        if place.project and place.list != _LISTS[-1]:
            return _Place(place.project, _LISTS[_LISTS.index(place.list) + 1])
        projects = cast("set[bytes]", self._redis.smembers("fw:projects"))
        return _Place(min((name for name in map(text, projects) if name > place.project), default=""))

    def _now(self) -> float:
        seconds, microseconds = self._redis.time()
        return seconds + microseconds / 1e6


def _shortest(limits: Limits, list_: str) -> int:
    """To what age the first things of a list are kept, in seconds; 0: all of them for ever."""
    if list_ == "jobs":
        return min((age for age in (limits.jobs_ttl_s, limits.artifacts_ttl_s) if age), default=0)
    age: int = getattr(limits, f"{list_}_ttl_s")
    return age


def _time(seconds: str | float) -> datetime:
    return datetime.fromtimestamp(float(seconds), UTC)
