"""The entries of redbeat: each wakes a courier once, when there will be something to do for a schedule.

The entry is a convenience: a schedule that nobody was woken for is found by the reaper. Only the courier
writes entries, after each look.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from celery import Celery
from redbeat import RedBeatSchedulerEntry
from redbeat.schedules import rrule

from tasks.messages import FIRE
from tasks.queue import SCHEDULES
from tasks.settings import Settings

__all__ = ["LOCK_S", "LOOK_EVERY_S", "Waker", "redbeat_settings"]

# How soon an entry that was written or changed is seen, and how soon another scheduler takes over.
LOOK_EVERY_S = 1
LOCK_S = 10


def redbeat_settings(settings: Settings) -> dict[str, object]:
    """For whoever writes entries and whoever reads them."""
    return {
        "timezone": "UTC",
        "enable_utc": True,
        "redbeat_redis_url": settings.redis_url,
        "redbeat_redis_options": {
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
        },
        "redbeat_key_prefix": "fw:beat:",
        "redbeat_lock_key": "fw:beat:lock",
        "redbeat_lock_timeout": LOCK_S,
        "beat_max_loop_interval": LOOK_EVERY_S,
    }


class Waker:
    """Any method may raise redis.RedisError."""

    def __init__(self, app: Celery, settings: Settings) -> None:
        app.conf.update(redbeat_settings(settings))
        self._app = app

    def wake(self, schedule_id: str, at: datetime | None) -> None:
        """Have a courier look at it `at` that time, to the second, and at no other; None for never."""
        if at is None:
            self._forget(schedule_id)
            return
        now = datetime.now(UTC)
        entry = self._entry(schedule_id, _whole_second(max(at, now)))
        entry.save()
        # An entry that is there keeps when it was last due, by the clock of whoever found it so.
        entry.reschedule(now)

    def _forget(self, schedule_id: str) -> None:
        self._entry(schedule_id, datetime.now(UTC)).delete()

    def _entry(self, schedule_id: str, at: datetime) -> Any:
        once = rrule("SECONDLY", dtstart=at, count=1, app=self._app)
        return RedBeatSchedulerEntry(
            schedule_id, FIRE, once, args=[schedule_id], options={"queue": SCHEDULES}, app=self._app
        )


def _whole_second(moment: datetime) -> datetime:
    """The first one that is not before it: redbeat knows no other."""
    return moment.replace(microsecond=0) + timedelta(seconds=1 if moment.microsecond else 0)
