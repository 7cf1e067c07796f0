"""Requests that hold their thread to wait: only so many at once, so that short ones find a thread."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flask import request

from service.errors import ProblemError
from service.services import services

__all__ = ["hold", "patiently", "preferred_wait"]

_PREFER_WAIT = re.compile(r"\s*wait\s*=\s*\"?(\d{1,6})\"?\s*", re.IGNORECASE)


@contextmanager
def patiently() -> Iterator[bool]:
    """Whether the request may wait; when too many do, it is to answer at once."""
    room = services().waiting
    entered = room.acquire(blocking=False)
    try:
        yield entered
    finally:
        if entered:
            room.release()


def hold() -> Callable[[], None]:
    """Begin to wait, and what ends it; overloaded when too many do."""
    room = services().waiting
    if not room.acquire(blocking=False):
        raise ProblemError(
            "overloaded", "too many event streams are open", hint="GET /v1/jobs/{id}?wait=30 needs none"
        )
    return room.release


def preferred_wait() -> float:
    """Seconds of ``Prefer: wait``; a preference that cannot be understood is ignored, as RFC 7240 wants."""
    for preference in request.headers.get("Prefer", "").split(","):
        if match := _PREFER_WAIT.fullmatch(preference):
            return min(float(match[1]), services().settings.long_poll_max_s)
    return 0.0
