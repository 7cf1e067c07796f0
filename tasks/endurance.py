"""Waiting for Redis and storage to come back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import redis

from tasks.lease import Lease
from tasks.storage import StorageUnavailable

__all__ = ["Endurance"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

# How long an attempt waits before it gives the job back.
_LONGEST_S = 300.0


class Endurance:
    """Of a worker that is to stop once `stopping` is set."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping

    def wait_out(self, action: Callable[[], _T], lease: Lease | None) -> _T:
        """The answer of `action`, tried again while Redis or storage are away; Interrupted."""
        deadline = time.monotonic() + _LONGEST_S
        pause = 0.5
        while True:
            try:
                return action()
            except (redis.RedisError, StorageUnavailable) as error:
                if time.monotonic() > deadline or (lease is None and self._stopping.is_set()):
                    raise
                _log.warning("waiting for %s", error)
            if lease is not None:
                lease.wait(pause)
            else:
                self._stopping.wait(pause)
            pause = min(2 * pause, 10.0)
