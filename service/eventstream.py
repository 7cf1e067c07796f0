"""A job's events as server-sent events, from any point on, until the job has ended."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import redis

from featherweight.job import JobState
from tasks.store import JobStore, NotFound

__all__ = ["KEEP_ALIVE_S", "event_stream"]

log = logging.getLogger(__name__)

# Silence is broken this often: proxies drop quiet connections, and a client that has gone is noticed.
KEEP_ALIVE_S = 15.0
_RECONNECT_MS = 2000

_FINAL = {state.value for state in JobState if state.done}

Batch = list[tuple[str, dict[str, Any]]]


def event_stream(
    jobs: JobStore, project: str, job_id: str, after: str, *, ending: Callable[[], bool] = lambda: False
) -> Iterator[bytes]:
    """What happened after event `after`, then what happens; ends after the event of a final state.

    Redis going away, and the end of this process (`ending`), end the stream early: clients come back with
    the id they saw last.
    """
    yield b"retry: %d\n\n" % _RECONNECT_MS
    try:
        while not ending():
            # Asked first: a job that was done before its events were read says nothing more.
            done = jobs.get(project, job_id).done
            batch = jobs.events(project, job_id, after=after, block_s=0 if done else KEEP_ALIVE_S)
            if batch:
                yield b"".join(_rendered(event_id, event) for event_id, event in batch)
                after = batch[-1][0]
            elif not done:
                yield b": keep-alive\n\n"
            if _is_over(batch) or (done and not batch):
                return
    except (redis.RedisError, NotFound) as error:
        log.warning("event stream of %s ended early: %s", job_id, type(error).__name__)


def _rendered(event_id: str, event: dict[str, Any]) -> bytes:
    # JSON has no line breaks, so one data line holds it.
    data = json.dumps(event, separators=(",", ":"))
    return f"id: {event_id}\nevent: {event.get('type', 'message')}\ndata: {data}\n\n".encode()


def _is_over(batch: Batch) -> bool:
    return any(event.get("type") == "state" and event.get("state") in _FINAL for _, event in batch)
