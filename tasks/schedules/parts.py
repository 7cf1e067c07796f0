"""The parts of schedules put together, for those who have a use for them: courier, reaper, service."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import redis
from kombu.exceptions import OperationalError

from tasks.inbox import Inbox
from tasks.messages import FIRE, NoMessageKey
from tasks.notices import Notices
from tasks.queue import SCHEDULES, Queue
from tasks.schedules.archive import Archive
from tasks.schedules.changes import Watcher
from tasks.schedules.endings import Endings
from tasks.schedules.firing import Firing
from tasks.schedules.inputs import Inputs
from tasks.schedules.records import ScheduleRecord
from tasks.schedules.store import ScheduleStore
from tasks.settings import Settings
from tasks.storage import Storage, StorageUnavailable
from tasks.submission import Submitter
from tasks.uses import Uses

__all__ = ["ScheduleParts", "chase", "fire", "schedule_parts", "send_fire", "takes_time"]

_log = logging.getLogger(__name__)

# A message takes a moment, and so does the one who fires.
_OVERDUE_S = 3.0
_AGAIN_AFTER_S = 10.0
_AT_ONCE = 50
# With more of them waiting the couriers are away, and would find nothing new in further ones.
_ENOUGH_MESSAGES = 1000


class ScheduleParts(NamedTuple):
    store: ScheduleStore
    uses: Uses
    archive: Archive
    firing: Firing
    endings: Endings


def schedule_parts(
    settings: Settings, client: redis.Redis, storage: Storage, queue: Queue, notices: Notices
) -> ScheduleParts:
    """Nothing is connected to yet."""
    store, archive, inbox = (
        ScheduleStore(client, settings),
        Archive(storage),
        Inbox(settings, client, storage),
    )
    submitter = Submitter.of(settings, client, storage, queue)
    return ScheduleParts(
        store=store,
        uses=Uses(client),
        archive=archive,
        firing=Firing(settings, store, submitter, archive, notices, Watcher(inbox), Inputs(inbox)),
        endings=Endings(store, storage, archive, notices),
    )


def fire(parts: ScheduleParts, wake: Callable[[str, datetime | None], None]) -> Callable[[str], None]:
    """What a courier does for a message: a look at the schedule, and the next wake-up."""

    def handle(schedule_id: str) -> None:
        try:
            parts.firing.look(schedule_id)
        except Exception:
            # While storage is away, looking at it all the time would take the threads from webhooks.
            wake(schedule_id, datetime.now(UTC) + timedelta(seconds=_AGAIN_AFTER_S))
            raise
        wake(schedule_id, parts.store.due_at(schedule_id))

    return handle


def chase(parts: ScheduleParts, client: redis.Redis, queue: Queue) -> Callable[[], None]:
    """A chore of the reaper: schedules that nobody was woken for."""

    def look() -> None:
        found = parts.store.overdue(by_s=_OVERDUE_S, again_after_s=_AGAIN_AFTER_S, limit=_AT_ONCE)
        for schedule_id in found:
            _look_if_quick(parts, schedule_id)
            # The courier does what takes time, and has itself woken for the next fire.
            if client.llen(SCHEDULES) < _ENOUGH_MESSAGES:
                send_fire(queue, schedule_id)

    return look


def _look_if_quick(parts: ScheduleParts, schedule_id: str) -> None:
    try:
        record = parts.store.find(schedule_id)
        if record is not None and not takes_time(record):
            parts.firing.look(schedule_id)
    except (redis.RedisError, StorageUnavailable):
        raise
    except Exception:  # noqa: BLE001 - one that cannot be looked at must not keep the others from firing
        _log.exception("the schedule %s cannot be looked at", schedule_id)


def takes_time(record: ScheduleRecord) -> bool:
    """Whether a look at it may list or copy objects."""
    return record.wanted.trigger.type == "object_changed" or bool(record.wanted.job.inbox_inputs)


def send_fire(queue: Queue, schedule_id: str) -> None:
    """Wake a courier; a message that cannot be sent is no loss, for the reaper finds what is due."""
    try:
        queue.send(FIRE, schedule_id, queue=SCHEDULES)
    except (OperationalError, OSError, NoMessageKey) as error:
        _log.warning("no courier was woken for %s: %s", schedule_id, type(error).__name__)
