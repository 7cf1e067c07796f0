"""The broker as a worker sees it: a queue in which anything may lie, out of which come only signed messages.

kombu's Redis transport takes what it reads for a message. Something that is not JSON, or not of the form
expected, ends the whole worker there; a message of the right form can ask Celery for more than our tasks.
Here everything is looked at as soon as it has been read: what is no message of ours leaves a line in the log,
and Celery is handed messages made anew of a task, an id and its signature (``tasks.messages``).
"""

from __future__ import annotations

import logging
from functools import cached_property
from queue import Empty
from typing import Any, ClassVar

import redis
from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.transport import redis as kombu_redis

from tasks.messages import MessageRefused, opened

__all__ = ["SealedAmqp"]

_log = logging.getLogger(__name__)


# Of these kombu makes what they are: nothing to read, a connection to make anew, the end of the process.
_NOT_OF_THE_MESSAGE = (Empty, redis.RedisError, OSError, MemoryError)


class _QoS(kombu_redis.QoS):
    def ack(self, delivery_tag: Any) -> None:
        """A message that Redis could not be told of is done with all the same. kombu would go on counting it
        as being worked on, and the worker, with as many as it may have, would never take another one. It is
        given out again after the visibility timeout, and claims whatever is to be done then."""
        try:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]
        finally:
            self._quick_ack(delivery_tag)

    def reject(self, delivery_tag: Any, requeue: bool = False) -> None:
        try:
            super().reject(delivery_tag, requeue)  # type: ignore[no-untyped-call]
        finally:
            self._quick_ack(delivery_tag)

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        """What was delivered and not acknowledged goes back into the queue, unless it cannot be read."""
        try:
            super().restore_by_tag(tag, client, leftmost)  # type: ignore[no-untyped-call]
        except _NOT_OF_THE_MESSAGE:
            raise
        except Exception as error:  # noqa: BLE001 - decoding runs kombu's own hooks on any JSON
            _refused(error)
            with self.channel.conn_or_acquire(client) as connection:
                connection.zrem(self.unacked_index_key, tag)
                connection.hdel(self.unacked_key, tag)


class _Channel(kombu_redis.Channel):
    QoS = _QoS

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except _NOT_OF_THE_MESSAGE:
            raise
        except Exception as error:  # noqa: BLE001 - see above; what was read is off the queue
            _refused(error)
            return True


class _Transport(kombu_redis.Transport):
    Channel = _Channel

    def _deliver(self, message: Any, queue: str) -> None:
        connection: Any = self.client
        try:
            message = opened(message, connection.seal)
        except MessageRefused as error:
            _refused(error)
        else:
            super()._deliver(message, queue)  # type: ignore[no-untyped-call]


class _Connection(Connection):
    """On the class, for kombu makes copies of connections."""

    seal: ClassVar[Any] = None

    def get_transport_cls(self) -> type:
        return _Transport


class SealedAmqp(AMQP):  # type: ignore[misc]
    """Celery's way to the broker, through the transport above, with the seal of its application."""

    @cached_property
    def Connection(self) -> type:  # noqa: N802 - Celery's name
        return type("_SealedConnection", (_Connection,), {"seal": self.app.seal})


def _refused(error: Exception) -> None:
    if isinstance(error, MessageRefused):
        _log.warning("refused a message of the queue: %s", error)
    else:
        _log.warning("refused a message of the queue: it cannot be read (%s)", type(error).__name__)
