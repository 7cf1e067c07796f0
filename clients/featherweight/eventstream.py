"""A job's events as they happen."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from featherweight._outage import Outage
from featherweight._sse import ServerSentEvent, parse
from featherweight._transport import Session, connection_error
from featherweight.errors import ConnectionFailed, FeatherweightError, ServiceUnavailable
from featherweight.events import EVENT, Event, StateEvent
from featherweight.job import Job, JobState

__all__ = ["EventStream", "UnknownEvent"]

log = logging.getLogger("featherweight")

_FINAL_STATES = frozenset(state.value for state in JobState if state.done)
# The service sends a comment now and then, so silence for this long means a dead connection.
_SILENCE_S = 60.0
# A service that does not say that there is nothing more says nothing so often, once the job has ended.
_QUIET_CONNECTIONS = 2


class UnknownEvent(BaseModel):
    """An event of a service newer than this library; its fields are in `data`."""

    model_config = ConfigDict(frozen=True)

    type: str
    data: dict[str, Any]


class EventStream:
    """Iterate over it: it ends with the job. A broken connection is taken up where it broke, and a
    service that is away is waited for, for five minutes.

    The last event is the job's final state, also where the service's log of events does not have it: the
    job's record says it then. After the last event of a job that has ended, given as `after`, there is none.

    `last_event_id` is the id of the last event handed out; given as `after`, a later stream goes
    on from there. Use it as a context manager, or close() it, to leave before the end.
    """

    def __init__(self, session: Session, job_id: str, *, after: str | None = None) -> None:
        self._session = session
        self._path = f"/v1/jobs/{quote(job_id, safe='')}"
        self._events = self._follow()
        self._closed = False
        self._was_connected = False
        self._is_all = False
        # Whoever goes on after an event may have been told of the end by it.
        self._may_know_the_end = after is not None
        self._state: str | None = None
        self.last_event_id = after

    def __iter__(self) -> Iterator[Event | UnknownEvent]:
        return self

    def __next__(self) -> Event | UnknownEvent:
        return next(self._events)

    def __enter__(self) -> EventStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the stream; a thread that is reading it stops at the next line that comes."""
        self._closed = True

    def _follow(self) -> Iterator[Event | UnknownEvent]:
        outage, quiet = Outage(self._session), 0
        while not self._closed:
            before = self.last_event_id
            failure: FeatherweightError | None = None
            try:
                for event in self._connected():
                    outage.over()
                    self._may_know_the_end = False
                    yield event
                    if isinstance(event, StateEvent):
                        self._state = event.state
                        if event.state in _FINAL_STATES:
                            return
            except httpx.TransportError as error:
                failure = connection_error(error, self._path)
            except (ConnectionFailed, ServiceUnavailable) as error:
                if not self._was_connected:
                    raise  # not even that the job exists is known
                failure = error
            if self._closed:
                return
            if failure is not None:
                outage.endure(failure)
                continue
            quiet = 0 if self.last_event_id != before else quiet + 1
            job = outage.endured(self._job)
            # What it said at last it may have said after this connection ended.
            if job.done and (self._is_all or quiet >= _QUIET_CONNECTIONS):
                yield from self._end_of(job)
                return
            if quiet or not job.done:
                log.info("the event stream was closed by the service; connecting again")
                self._session.clock.sleep(self._session.policy.jitter(quiet))

    def _connected(self) -> Iterator[Event | UnknownEvent]:
        """The events of one connection."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self.last_event_id is not None:
            headers["Last-Event-ID"] = self.last_event_id
        with self._session.stream(
            "GET", f"{self._path}/events", headers=headers, timeout=_SILENCE_S
        ) as response:
            self._was_connected = True
            self._is_all = response.status_code == httpx.codes.NO_CONTENT
            for message in parse(response.iter_bytes()):
                if self._closed:
                    return
                if message is not None:
                    self.last_event_id = message.id or self.last_event_id
                    yield _decoded(message)

    def _job(self) -> Job:
        return self._session.get(self._path, Job)

    def _end_of(self, job: Job) -> Iterator[Event]:
        """The state of a job that has ended and whose events do not tell of it."""
        if not self._may_know_the_end and self._state != job.state:
            yield StateEvent(state=str(job.state), attempt=job.attempt)


def _decoded(message: ServerSentEvent) -> Event | UnknownEvent:
    try:
        return EVENT.validate_json(message.data)
    except ValidationError:
        return _unknown(message)


def _unknown(message: ServerSentEvent) -> UnknownEvent:
    try:
        data = json.loads(message.data)
    except ValueError:
        data = message.data
    fields = data if isinstance(data, dict) else {"data": data}
    return UnknownEvent(type=str(fields.get("type", message.event)), data=fields)
