"""Uploads in parts that have begun at the object storage and that no record names yet.

Whoever begins one notes its key first. One who is lost before the record is written, or before the storage's
answer has come, leaves an upload whose parts take up room and that nobody would ever end: the note does it.
"""

from __future__ import annotations

import logging
import time
from typing import cast

import redis

from tasks.storage import Storage, StorageUnavailable

__all__ = ["NOTED", "Unfinished"]

NOTED = "fw:unfinished"
"""Keys by when they are looked at, in a sorted set."""

# Longer than anybody takes from the beginning to the record.
_REST_S = 900.0
_AT_ONCE = 10

_log = logging.getLogger(__name__)


class Unfinished:
    """Safe to use from many threads. Every method may raise redis.RedisError."""

    def __init__(self, client: redis.Redis, storage: Storage) -> None:
        self._redis = client
        self._storage = storage

    def begins(self, key: str) -> None:
        """An upload to `key` is about to begin. Unless it is `recorded` soon, whoever comes by ends it."""
        self._redis.zadd(NOTED, {key: time.time() + _REST_S})

    def recorded(self, key: str) -> None:
        """A record names the upload to `key`, and ends it."""
        self._redis.zrem(NOTED, key)

    def sweep(self) -> None:
        """End a few of those that are due. What was put together already stays."""
        due = cast(
            "list[bytes]", self._redis.zrangebyscore(NOTED, "-inf", time.time(), start=0, num=_AT_ONCE)
        )
        for name in due:
            try:
                ended = self._storage.abort_uploads(name.decode())
            except StorageUnavailable as error:
                _log.warning("%s is looked at later: %s", name.decode(), error)
                return
            if ended:
                _log.warning("%s: %d uploads that nobody knew of are ended", name.decode(), ended)
            self._redis.zrem(NOTED, name)
