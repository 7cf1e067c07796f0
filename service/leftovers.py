"""What lies in storage and belongs to no record: removed at once, or remembered and removed later.

A request whose file was stored and then refused takes it back. While storage is away it cannot; the key is
noted in Redis then, and a later request of anybody takes it back.

A process that dies while it sends a file in parts leaves the parts. So the key is noted before, and whoever
comes to send the same file again, or anybody when no file can be on its way any more, forgets them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast

import redis

from service.services import Services
from tasks.storage import StorageUnavailable

__all__ = ["discard", "reclaim", "sending", "sweep"]

_NOTED = "fw:leftovers"
_SENDING = "fw:sending"
# Who tries again with the same Idempotency-Key stores under the same key: that comes sooner, and reclaims it.
_REST_S = 600.0
_AT_ONCE = 5

_log = logging.getLogger(__name__)


def discard(app: Services, key: str) -> None:
    """Remove an object, now or later. Never raises for storage or Redis being away: it stands where another
    failure is on its way to the caller."""
    try:
        app.storage.delete(key)
    except StorageUnavailable:
        _log.warning("storage is away; %s is removed later", key)
        with suppress(redis.RedisError):
            app.redis.zadd(_NOTED, {key: time.time() + _REST_S})


def reclaim(app: Services, key: str) -> None:
    """Something is stored under the key now that shall stay."""
    app.redis.zrem(_NOTED, key)


@contextmanager
def sending(app: Services, key: str) -> Iterator[None]:
    """While parts of a file are being stored that shall lie under `key`. StorageUnavailable."""
    if app.redis.zscore(_SENDING, key) is not None:
        app.storage.abort_uploads(key)
    app.redis.zadd(_SENDING, {key: time.time() + app.settings.upload_expiry_s})
    yield
    # After a failure it stays: taking back what was sent may have failed, too.
    with suppress(redis.RedisError):
        app.redis.zrem(_SENDING, key)


def sweep(app: Services) -> None:
    """Remove a few of those that are due. StorageUnavailable never."""
    _sweep_parts(app)
    due = cast("list[bytes]", app.redis.zrangebyscore(_NOTED, "-inf", time.time(), start=0, num=_AT_ONCE))
    for name in due:
        # One of those who come at the same time takes it.
        if app.redis.zrem(_NOTED, name):
            discard(app, name.decode())


def _sweep_parts(app: Services) -> None:
    due = cast("list[bytes]", app.redis.zrangebyscore(_SENDING, "-inf", time.time(), start=0, num=_AT_ONCE))
    for name in due:
        with suppress(StorageUnavailable):
            app.storage.abort_uploads(name.decode())
            app.redis.zrem(_SENDING, name)
