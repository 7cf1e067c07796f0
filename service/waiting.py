"""Requests that hold their thread to wait: only so many at once, so that short ones find a thread."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flask import g, request

from service.errors import ProblemError
from service.services import services

__all__ = ["hold", "patiently", "preferred_wait"]

_PREFER_WAIT = re.compile(r"\s*wait\s*=\s*\"?(\d{1,6})\"?\s*", re.IGNORECASE)

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


def preferred_wait() -> float:
    """Seconds of ``Prefer: wait``; a preference that cannot be understood is ignored, as RFC 7240 wants."""
    for preference in request.headers.get("Prefer", "").split(","):
        if match := _PREFER_WAIT.fullmatch(preference):
            return min(float(match[1]), services().settings.long_poll_max_s)
    return 0.0
