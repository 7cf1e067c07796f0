"""Waiting for a job or a batch to be done: long polls with an ETag, and events on the side."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar
from urllib.parse import quote

from featherweight._retry import Deadline, retry_after
from featherweight._transport import Session, decode
from featherweight.batch import Batch
from featherweight.errors import ConnectionFailed, FeatherweightError, RateLimited, ServiceUnavailable
from featherweight.events import Event
from featherweight.eventstream import EventStream, UnknownEvent
from featherweight.job import Job

__all__ = ["OnEvent", "wait_until_done", "watch_until_done"]

OnEvent = Callable[[Event | UnknownEvent], None]
W = TypeVar("W", bound=Job | Batch)

_LONG_POLL_S = 30
_ANSWER_MARGIN_S = 10.0
# Between two polls that came back at once; a job that reports often shall not be asked more often.
_SHORTEST_INTERVAL_S = 0.25
# How long the service may be away in the middle of a wait without an end: it is being restarted.
_LONGEST_OUTAGE_S = 300.0


def wait_until_done(
    session: Session, job_id: str, deadline: Deadline, on_event: OnEvent | None = None
) -> Job:
    """The job once it is done, or as it was last seen when `deadline` passed.

    `on_event` is called in this thread. What is done is said by the job's own ``done``, so states
    that this library does not know are waited through. Raises what the service answers; an outage
    in between is waited out for five minutes.
    """
    if on_event is not None:
        _follow(session, job_id, deadline, on_event)
    return watch_until_done(session, f"/v1/jobs/{quote(job_id, safe='')}", Job, deadline)


def watch_until_done(
    session: Session,
    path: str,
    type_: type[W],
    deadline: Deadline,
    on_change: Callable[[W], None] | None = None,
) -> W:
    """What is at `path` once it is done, or as it was last seen when `deadline` passed; `on_change` is called
    in this thread with everything that was seen."""
    watch = _Watch(session, path, type_)
    seen = watch.look(hold=0.0, deadline=Deadline(session.clock, None))
    assert seen is not None
    while True:
        if on_change is not None:
            on_change(seen)
        if seen.done or deadline.passed:
            return seen
        while (found := watch.look(hold=min(_LONG_POLL_S, deadline.remaining), deadline=deadline)) is None:
            if deadline.passed:
                return seen
        seen = found


class _Watch(Generic[W]):
    """Looks at one job or batch again and again, telling the service what it has already seen."""

    def __init__(self, session: Session, path: str, type_: type[W]) -> None:
        self._session = session
        self._path = path
        self._type = type_
        self._etag: str | None = None
        self._seen = False
        self._not_before = 0.0
        self._away_since: float | None = None
        self._outages = 0

    def look(self, *, hold: float, deadline: Deadline) -> W | None:
        """It when it has changed, within `hold` seconds; None when it has not."""
        clock = self._session.clock
        clock.sleep(min(max(0.0, self._not_before - clock.now()), deadline.remaining))
        began = clock.now()
        try:
            # No retries past the deadline, and no waiting for an answer much longer than it.
            response = self._session.request(
                "GET",
                self._path,
                params={"wait": int(hold)} if hold >= 1 else None,
                headers={"If-None-Match": self._etag} if self._etag else None,
                timeout=max(1.0, min(hold + _ANSWER_MARGIN_S, deadline.remaining + 1.0)),
                deadline=deadline,
            )
        except (ConnectionFailed, ServiceUnavailable, RateLimited) as error:
            self._endure(error, began, deadline)
            return None
        self._away_since, self._outages = None, 0
        self._not_before = began + max(
            _SHORTEST_INTERVAL_S, retry_after(response.headers.get("Retry-After")) or 0.0
        )
        if response.status_code == 304:
            return None
        self._seen, self._etag = True, response.headers.get("ETag")
        return decode(response, self._type)

    def _endure(self, error: FeatherweightError, began: float, deadline: Deadline) -> None:
        if not self._seen:
            raise error  # there is nothing to show for the wait yet, not even that it exists
        self._away_since = began if self._away_since is None else self._away_since
        now = self._session.clock.now()
        if now - self._away_since > _LONGEST_OUTAGE_S:
            raise error
        self._not_before = now + self._session.policy.jitter(self._outages)
        self._outages += 1


def _follow(session: Session, job_id: str, deadline: Deadline, on_event: OnEvent) -> None:
    """Hand out events until the stream ends or the deadline passes.

    The stream is read in a thread of its own: a quiet job sends nothing, and this thread has to be
    back in time all the same. A stream that fails is no failure of the wait: polling goes on.
    """
    stream = EventStream(session, job_id)
    events: queue.SimpleQueue[Event | UnknownEvent | None] = queue.SimpleQueue()
    threading.Thread(target=_pump, args=(stream, events), name="featherweight-events", daemon=True).start()
    try:
        while (event := _next(events, deadline)) is not None:
            on_event(event)
    finally:
        stream.close()


def _next(
    events: queue.SimpleQueue[Event | UnknownEvent | None], deadline: Deadline
) -> Event | UnknownEvent | None:
    try:
        return events.get(timeout=min(deadline.remaining, threading.TIMEOUT_MAX))
    except queue.Empty:
        return None


def _pump(stream: EventStream, events: queue.SimpleQueue[Event | UnknownEvent | None]) -> None:
    try:
        for event in stream:
            events.put(event)
    except (FeatherweightError, RuntimeError):  # RuntimeError: the client was closed meanwhile
        pass  # the poll that follows meets the same trouble and says so
    finally:
        events.put(None)
