"""From a runner's event pipe into the record, the event stream and the log.

The runner is not to be trusted: lines that are no events are dropped, and it can neither flood
Redis nor say that the job has entered a state.
"""

from __future__ import annotations

import logging
import time
from typing import TypeVar

import redis
from pydantic import ValidationError

from featherweight.events import EVENT, Event, LogEvent, ProgressEvent, StateEvent, WarningEvent
from tasks.joblog import Hidden, JobLog
from tasks.lease import Lease
from tasks.records import Claim
from tasks.store import JobStore

__all__ = ["Relay"]

_log = logging.getLogger(__name__)

_LINE_BYTES = 16 * 1024
_MESSAGE_LENGTH = 2000
_PROGRESS_EVERY_S = 0.25
# Events other than progress: so many at once, and so many a second after that.
_BURST, _RATE = 200.0, 20.0

_Spoken = TypeVar("_Spoken", LogEvent, WarningEvent)


class Relay:
    """Fed with what comes through the pipe. It never raises because Redis is away."""

    def __init__(self, claim: Claim, store: JobStore, lease: Lease, log: JobLog, hidden: Hidden) -> None:
        self._claim = claim
        self._store = store
        self._lease = lease
        self._log = log
        self._hidden = hidden
        self._rest = b""
        self._skipping = False
        self._progress: ProgressEvent | None = None
        self._progress_at = 0.0
        self._allowance, self._allowance_at = _BURST, time.monotonic()

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if self._skipping or len(line) > _LINE_BYTES:
                self._skipping = False
                self._log.say("warning", "an event was too long and was left out")
            else:
                self._take(line)
        if len(self._rest) > _LINE_BYTES:
            self._skipping, self._rest = True, b""

    def tick(self) -> None:
        """Call a few times a second: progress is sent on no oftener than four times a second."""
        if self._progress is not None and time.monotonic() - self._progress_at >= _PROGRESS_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Send the newest progress now."""
        if self._progress is not None:
            self._progress_at = time.monotonic()
            event, self._progress = self._progress, None
            self._send(event)

    def _take(self, line: bytes) -> None:
        try:
            event = EVENT.validate_json(line)
        except ValidationError:
            self._log.say("warning", "an event could not be read and was left out")
            return
        match event:
            case StateEvent():
                return
            case ProgressEvent():
                self._progress = event
                self.tick()
            case LogEvent():
                event = self._spoken(event)
                self._log.say(event.level, event.message)
                self._send_if_allowed(event)
            case WarningEvent():
                event = self._spoken(event)
                self._log.say("warning", event.message)
                self._send_if_allowed(event)
            case _:
                self.flush()
                self._send_if_allowed(event)

    def _spoken(self, event: _Spoken) -> _Spoken:
        return event.model_copy(update={"message": self._hidden(event.message)[:_MESSAGE_LENGTH]})

    def _send_if_allowed(self, event: Event) -> None:
        now = time.monotonic()
        self._allowance = min(_BURST, self._allowance + (now - self._allowance_at) * _RATE)
        self._allowance_at = now
        if self._allowance >= 1:
            self._allowance -= 1
            self._send(event)

    def _send(self, event: Event) -> None:
        try:
            if not self._store.emit(self._claim, event):
                self._lease.lose()
        except redis.RedisError as error:
            _log.warning("an event of %s is lost: %s", self._claim.job_id, error)
