"""Requests that hold their thread to wait: only so many at once, so that short ones find a thread."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from flask import g, request

from service.auth import project
from service.errors import ProblemError
from service.services import services

__all__ = ["hold", "preferred_wait", "until_done", "until_known"]

_PREFER_WAIT = re.compile(r"\s*wait\s*=\s*\"?(\d{1,6})\"?\s*", re.IGNORECASE)

# Of a long poll that could not be held.
_REST_S = 5

MayWait = Callable[[], bool]


class _Record(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def done(self) -> bool: ...


R = TypeVar("R", bound=_Record)
# Of a store: project, id, the version known, seconds.
WaitChange = Callable[[str, str, str, float], R]


def until_done(record: R, seconds: float, wait_change: WaitChange[R]) -> R:
    """The record once it is done, or as it is after `seconds`."""
    deadline = time.monotonic() + seconds
    with _patiently() as may_wait:
        while not record.done and (left := deadline - time.monotonic()) > 0:
            if not may_wait():
                return _told_to_rest(record)
            record = wait_change(project(), record.id, record.version, left)
    return record


def until_known(record: R, seconds: float, tag: str, wait_change: WaitChange[R]) -> R:
    """The record once it is not as If-None-Match says, or, without that header, once it is done; or as it is
    after `seconds`. `tag` is its ETag."""
    if "If-None-Match" not in request.headers:
        return until_done(record, seconds, wait_change)
    if not request.if_none_match.contains(tag):
        return record
    with _patiently() as may_wait:
        if not may_wait():
            return _told_to_rest(record)
        return wait_change(project(), record.id, record.version, seconds)


def _told_to_rest(record: R) -> R:
    """Who is answered before the time shall not ask again at once."""
    g.rest_s = _REST_S
    return record


@contextmanager
def _patiently() -> Iterator[MayWait]:
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
