"""Objects in storage that belong to no record: removed at once, or remembered and removed later.

A request whose file was stored and then refused takes it back. While storage is away it cannot; the key is
noted in Redis then, and a later request of anybody takes it back.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import cast

import redis

from service.services import Services
from tasks.storage import StorageUnavailable

__all__ = ["discard", "reclaim", "sweep"]

_NOTED = "fw:leftovers"
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


def sweep(app: Services) -> None:
    """Remove a few of those that are due. StorageUnavailable never."""
    due = cast("list[bytes]", app.redis.zrangebyscore(_NOTED, "-inf", time.time(), start=0, num=_AT_ONCE))
    for name in due:
        # One of those who come at the same time takes it.
        if app.redis.zrem(_NOTED, name):
            discard(app, name.decode())
