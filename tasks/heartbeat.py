"""Keeps the messages of running jobs ours.

Kombu gives a message that was not acknowledged within ``visibility_timeout`` to somebody else. The
timeout is short, so that a dead worker's messages come back soon, and is put off here while their
jobs run. The tags known to the channel are not enough: after Redis restarts the channel is a new
one that has delivered nothing, while the jobs still run.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import redis
from celery import bootsteps
from celery.worker import state

__all__ = ["Heartbeat"]

_log = logging.getLogger(__name__)


class Heartbeat(bootsteps.StartStopStep):  # type: ignore[misc]
    """A step of the consumer, begun again with every new connection."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        options = consumer.app.conf.broker_transport_options
        interval = options["visibility_timeout"] / 4
        self._timer = consumer.timer.call_repeatedly(interval, self._beat, (consumer,))

    def stop(self, consumer: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    terminate = stop

    def _beat(self, consumer: Any) -> None:
        channel = consumer.task_consumer.channel
        qos = channel.qos
        # Without those that are done with: one whose acknowledgement got lost is to be given out again.
        tags = set(qos._delivered) - set(qos._dirty)
        tags |= {request.message.delivery_tag for request in _running()}
        if not tags:
            return
        try:
            with channel.conn_or_acquire() as client:
                # xx: a message that was acknowledged meanwhile must not come back.
                client.zadd(channel.unacked_index_key, dict.fromkeys(tags, time.time()), xx=True)
        except (redis.RedisError, OSError) as error:
            _log.warning("cannot keep messages ours: %s", error)


def _running() -> list[Any]:
    """Requests whose jobs run; the pool's threads change the set while we look."""
    while True:
        try:
            return list(state.active_requests)
        except RuntimeError:
            continue
