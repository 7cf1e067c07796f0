"""Locks held across processes, in Redis."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import redis
from redis.exceptions import LockError

__all__ = ["Busy", "KeepAlive", "held"]

KeepAlive = Callable[[], None]

# How long a lock outlives a process that died, and how often it is put off meanwhile.
_TIMEOUT_S = 60
_INTERVAL_S = 15


class Busy(Exception):
    """Somebody else holds the lock."""


@contextmanager
def held(client: redis.Redis, name: str, *, wait_s: float = 0) -> Iterator[KeepAlive]:
    """Hold the lock `name`; Busy when it is not free within `wait_s`.

    What is yielded is to be called now and then by work that may take longer than a minute.
    """
    lock = client.lock(f"fw:lock:{name}", timeout=_TIMEOUT_S, thread_local=False)
    if not lock.acquire(blocking=wait_s > 0, blocking_timeout=wait_s or None):
        raise Busy(name)
    renewed = time.monotonic()

    def keep_alive() -> None:
        nonlocal renewed
        if time.monotonic() - renewed > _INTERVAL_S:
            renewed = time.monotonic()
            # Work of minutes is not thrown away because Redis was away for a moment.
            with suppress(LockError, redis.RedisError):
                lock.reacquire()

    try:
        yield keep_alive
    finally:
        # Gone already, or Redis is: the lock ends by itself.
        with suppress(LockError, redis.RedisError):
            lock.release()
