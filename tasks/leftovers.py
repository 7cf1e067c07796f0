"""Objects in storage that belong to no record: removed at once, or remembered and removed later.

Who stored a file that was then refused takes it back. While storage is away that cannot be done; the key is
noted in Redis then, and whoever stores something later takes it back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast

import redis

from tasks.storage import Storage, StorageUnavailable

__all__ = ["SENDING", "Leftovers"]

_NOTED = "fw:leftovers"
SENDING = "fw:sending"
"""Keys that files are being streamed to, by when that has ended in any case, in a sorted set."""

# Who tries again with the same Idempotency-Key stores under the same key: that comes sooner, and reclaims it.
_REST_S = 600.0
# Longer than anybody takes to store a file.
_COPY_S = 6 * 3600.0
_AT_ONCE = 5

_log = logging.getLogger(__name__)


class Leftovers:
    """Safe to use from many threads."""

    def __init__(self, client: redis.Redis, storage: Storage) -> None:
        self._redis = client
        self._storage = storage

    def discard(self, key: str) -> None:
        """Remove an object, now or later. Never raises for storage or Redis being away: it stands where
        another failure is on its way to the caller."""
        try:
            self._storage.delete(key)
        except StorageUnavailable:
            _log.warning("storage is away; %s is removed later", key)
            with suppress(redis.RedisError):
                self._redis.zadd(_NOTED, {key: time.time() + _REST_S})

    def expect(self, key: str) -> None:
        """Something is going to be stored under the key that goes again unless it is reclaimed, be this
        process lost or not. redis.RedisError."""
        self._redis.zadd(_NOTED, {key: time.time() + _COPY_S})

    @contextmanager
    def sending(self, key: str, within_s: float) -> Iterator[None]:
        """While a file is stored under `key`, which takes less than `within_s`: parts of one that was being
        stored there when its process died are forgotten before; after that time they are strays
        (``tasks.strays``). StorageUnavailable."""
        if self._redis.zscore(SENDING, key) is not None:
            self._storage.abort_uploads(key)
        self._redis.zadd(SENDING, {key: time.time() + within_s})
        try:
            yield
        except BaseException:
            # Taking back what was sent may have failed, too; nobody is at it any more.
            with suppress(redis.RedisError):
                self._redis.zadd(SENDING, {key: time.time()})
            raise
        with suppress(redis.RedisError):
            self._redis.zrem(SENDING, key)

    def reclaim(self, key: str) -> None:
        """Something is stored under the key now that shall stay. redis.RedisError."""
        self._redis.zrem(_NOTED, key)

    def sweep(self) -> None:
        """Remove a few of those that are due. redis.RedisError; StorageUnavailable never."""
        now = time.time()
        due = cast("list[bytes]", self._redis.zrangebyscore(_NOTED, "-inf", now, start=0, num=_AT_ONCE))
        for name in due:
            # One of those who come at the same time takes it.
            if self._redis.zrem(_NOTED, name):
                self.discard(name.decode())
