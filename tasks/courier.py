"""The courier: ``celery -A tasks.courier worker -Q webhooks,schedules``.

It does what takes little work and much waiting: it runs no jobs, imports no framework and needs no sandbox
to be ready. What is to be done is in the records; a message only says where to look.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import redis
from celery import Celery
from celery.exceptions import Reject

from tasks.heartbeat import Heartbeat
from tasks.messages import DELIVER, FIRE
from tasks.pulse import Pulse
from tasks.queue import Queue, make_celery
from tasks.schedules.parts import fire, schedule_parts
from tasks.schedules.waker import Waker
from tasks.settings import Settings
from tasks.solitude import keep_alone
from tasks.storage import Storage
from tasks.store import connect
from tasks.webhooks.courier import Announcer, Deliverer
from tasks.webhooks.notices import WebhookNotices

__all__ = ["HANDLERS", "Handler", "Parts", "app", "make_courier"]

_log = logging.getLogger(__name__)
_THREADS = 16
# That may wait for receivers known to be slow.
_FOR_SLOW = 8


class Parts(NamedTuple):
    """What the handlers work with."""

    settings: Settings
    client: redis.Redis
    storage: Storage
    queue: Queue


# Takes the id in a message. What it raises is logged, and the message is not tried again: whatever is still
# due the reaper announces anew.
Handler = Callable[[str], None]


def _schedules(parts: Parts) -> Handler:
    webhooks = WebhookNotices(parts.client, parts.settings, parts.queue)
    made = schedule_parts(parts.settings, parts.client, parts.storage, parts.queue, webhooks)
    return fire(made, Waker(make_celery(parts.settings), parts.settings).wake)


HANDLERS: Mapping[str, Callable[[Parts], Handler]] = {
    DELIVER: lambda parts: Deliverer(parts.settings, parts.client, parts.queue, most_slow=_FOR_SLOW),
    FIRE: _schedules,
}
"""By the task's name."""

CHORES: Sequence[Callable[[Parts], Callable[[], None]]] = (
    lambda parts: Announcer(parts.settings, parts.client, parts.queue),
)
"""Done every second, as the reaper does its own: short, and good to be done by several."""


def make_courier(settings: Settings) -> Celery:
    """Nothing is connected to yet."""
    logging.getLogger("tasks").setLevel(settings.log_level)
    app = make_celery(settings)
    app.conf.update(worker_pool="threads", worker_concurrency=_THREADS)
    keep_alone(app)
    app.steps["consumer"].add(Heartbeat)
    parts = Parts(settings, connect(settings), Storage(settings), Queue(app))
    for name, make in HANDLERS.items():
        _register(app, name, make(parts))
    app.chores = [make(parts) for make in CHORES]
    app.steps["worker"].add(Pulse)
    return app


def _register(app: Celery, name: str, handler: Handler) -> None:
    @app.task(name=name, bind=False)  # type: ignore[untyped-decorator]
    def handle(id: str, signature: str) -> None:
        seal: Any = app.seal
        if not seal.accepts(id, signature, name):
            raise Reject("the signature fits none of the keys", requeue=False)
        try:
            handler(id)
        except Exception as error:  # noqa: BLE001 - what leaves a task may end the courier
            _log.warning("%s of %s is left to the reaper: %s", name, id, error, exc_info=True)


app = make_courier(Settings())
