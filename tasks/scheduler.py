"""The scheduler: ``celery -A tasks.scheduler beat --pidfile=``.

It does nothing but send a signed message whenever an entry of redbeat (``tasks.schedules.waker``) is due; a
courier does the rest. Of several schedulers the one with the lock works; when it is lost, another has the
lock within ten seconds.
"""

from __future__ import annotations

import logging
from typing import Any

import redis
from celery import Celery
from kombu.exceptions import OperationalError
from redbeat.schedulers import RedBeatScheduler, acquire_distributed_beat_lock
from redis.exceptions import LockError

from tasks.messages import FIRE
from tasks.queue import SCHEDULES, Queue, make_celery
from tasks.schedules.waker import LOOK_EVERY_S, redbeat_settings
from tasks.settings import Settings

__all__ = ["Scheduler", "app", "make_scheduler"]

_log = logging.getLogger(__name__)


class Scheduler(RedBeatScheduler):  # type: ignore[misc]
    """redbeat's, which ends when it loses its lock or Redis; this one waits and goes on."""

    lock: Any

    def tick(self, *args: Any, **options: Any) -> float:
        try:
            if self.lock is None:
                self._take_lock()
            return float(super().tick(*args, **options))
        except LockError:
            # Frozen for too long: another has it, or nobody.
            _log.warning("the lock of the schedulers is lost, and asked for again")
            self.lock = None
        except (redis.RedisError, OperationalError, OSError) as error:
            _log.warning("the scheduler waits: %s", type(error).__name__)
        return float(LOOK_EVERY_S)

    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **_: Any) -> None:
        """What redbeat sends, whatever the entry says: a signed message about a schedule."""
        if advance:
            self.reserve(entry)
        if entry.task == FIRE and len(entry.args) == 1:
            Queue(self.app).send(FIRE, str(entry.args[0]), queue=SCHEDULES)
        else:
            _log.warning("an entry asks for %r, which is not sent", entry.task)

    def close(self) -> None:
        try:
            super().close()
        except (redis.RedisError, OSError) as error:
            _log.info("the lock is left to run out: %s", type(error).__name__)

    def _take_lock(self) -> None:
        """Waits until it is free."""

        class _Beat:
            scheduler = self

        acquire_distributed_beat_lock(sender=_Beat)


def make_scheduler(settings: Settings) -> Celery:
    """Nothing is connected to yet."""
    logging.getLogger("tasks").setLevel(settings.log_level)
    app = make_celery(settings)
    app.conf.update(redbeat_settings(settings))
    # Without results there are none to clean up, for which Celery would make an entry of its own.
    app.conf.update(beat_scheduler=Scheduler, result_expires=None)
    return app


app = make_scheduler(Settings())
