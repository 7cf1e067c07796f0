"""Who is told when a job has ended, and what the reaper looks after besides jobs: a line for each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import redis

from tasks.batches.engine import Batches
from tasks.queue import Queue
from tasks.retention.sweeper import Sweeper
from tasks.schedules.parts import chase, schedule_parts
from tasks.settings import Settings
from tasks.settle import Listener
from tasks.storage import Storage
from tasks.store import JobStore
from tasks.strays import Strays
from tasks.webhooks.courier import Announcer
from tasks.webhooks.notices import JobNotices, WebhookNotices

__all__ = ["Attendants", "attendants"]


class Attendants(NamedTuple):
    """`chores` are done by the one reaper whose turn it is, every ``reaper_interval_s``: each takes little
    time, does a bounded share of what is due, and can be repeated."""

    listeners: tuple[Listener, ...]
    chores: tuple[Callable[[], None], ...]


def attendants(
    settings: Settings, client: redis.Redis, store: JobStore, storage: Storage, queue: Queue
) -> Attendants:
    """Nothing is connected to yet."""
    webhooks = WebhookNotices(client, settings, queue)
    batches = Batches.of(settings, client, storage, queue, webhooks)
    schedules = schedule_parts(settings, client, storage, queue, webhooks)
    return Attendants(
        listeners=(JobNotices(webhooks, settings), batches, schedules.endings),
        chores=(
            Announcer(settings, client, queue),
            batches.chore,
            chase(schedules, client, queue),
            Sweeper(settings, client, storage).turn,
            Strays(settings, client, storage).turn,
        ),
    )
