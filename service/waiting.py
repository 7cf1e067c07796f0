"""Requests that hold their thread to wait: only so many at once, so that short ones find a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flask import g

from service.errors import ProblemError
from service.services import services

__all__ = ["hold", "patiently"]

MayWait = Callable[[], bool]


@contextmanager
def patiently() -> Iterator[MayWait]:
    """Whether the request may wait, to be asked anew before each wait: not when too many do, nor when the
    process is about to end."""
    room, closing = services().waiting, services().closing
    if not room.acquire(blocking=False):
        yield lambda: False
        return
    try:
        g.seat.leave()
        yield lambda: not closing.is_set()
    finally:
        g.seat.come_back()
        room.release()


def hold() -> Callable[[], None]:
    """Begin to wait until the answer has been sent, and what ends it; overloaded when too many do."""
    room = services().waiting
    if not room.acquire(blocking=False):
        raise ProblemError(
            "overloaded", "too many event streams are open", hint="GET /v1/jobs/{id}?wait=30 needs none"
        )
    g.seat.leave()
    return room.release
