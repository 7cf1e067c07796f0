"""Spares callers the wait for a server that does not answer.

    closed ──a call timed out──> open: calls are refused at once, but for one every `rest_s`
      ^                            │
      └────one was answered────────┘

Only silence opens it. A connection that is refused, or an answer that says no, costs nobody time, and the
next call may fare better.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Breaker", "Open"]


class Open(Exception):
    """The call was not made: another has just waited in vain."""


class Breaker:
    """Safe to use from many threads. `silent` tells which failures are a silence."""

    def __init__(
        self,
        silent: Callable[[BaseException], bool],
        *,
        rest_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._silent = silent
        self._rest_s = rest_s
        self._clock = clock
        self._lock = threading.Lock()
        self._closed = True
        self._next_at = 0.0

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around one call; Open instead of it."""
        self._admit()
        try:
            yield
        except BaseException as error:
            self._note(heard=not self._silent(error))
            raise
        self._note(heard=True)

    def _admit(self) -> None:
        if self._closed:
            return
        with self._lock:
            now = self._clock()
            if not self._closed and now < self._next_at:
                raise Open("no answer to the last call")
            self._next_at = now + self._rest_s

    def _note(self, *, heard: bool) -> None:
        if heard and self._closed:
            return
        with self._lock:
            # What was begun before the silence and is answered now says that it is over, too.
            self._closed = heard
            if not heard:
                self._next_at = self._clock() + self._rest_s
