"""Job records in Redis.

The message in the queue is a hint, the record is the truth; which job a message has claimed is decided by
whose turn it is, so that no project waits behind all the jobs of another. Every change of a job is one
Lua script (``tasks/lua``) that uses Redis' own clock, so no worker's clock matters; the transitions
allowed are those of ``featherweight.job.TRANSITIONS``. Whoever holds a claim is known by attempt number and
nonce: a worker that was frozen or cut off and whose job went to another changes nothing any more.

How a job ends
    1. ``finalizing``: fenced; the outputs are collected and stored under ``a<attempt>/``.
    2. ``commit``: fenced; from here on the job has ended, whatever happens to the worker.
    3. ``result.json`` is written from the committed record and what other attempts left in storage
       is removed (``tasks.settle``). Until that is confirmed the job stands in ``fw:unsettled``,
       and the reaper does it if nobody else did.
So ``result.json`` never says what was not committed, and a worker killed at any point in between
leaves either a lease that runs out or a job that the reaper settles.
"""

from __future__ import annotations

import json
import random
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, cast

import redis

from featherweight.events import Event, LogEvent, ProgressEvent, ResumedEvent, StageEvent
from featherweight.job import (
    TRANSITIONS,
    Attempt,
    IllegalTransition,
    JobRequest,
    JobState,
    Origin,
    Progress,
    ResumedFrom,
)
from featherweight.problem import Problem
from tasks.endings import with_evidence
from tasks.identifiers import check_name, is_id
from tasks.queue import DEFAULT_QUEUE
from tasks.records import Claim, Evidence, JobRecord, Outcome, Renewal
from tasks.recordstore import NotFound, checked, page, text
from tasks.restoring import stored_fields
from tasks.scripts import load_scripts
from tasks.settings import Settings

__all__ = ["Conflict", "JobStore", "NotFound", "QueueFull", "connect"]

# Named here because inside the classes `list` is a method.
_Ids = list[str]
_Events = list[tuple[str, dict[str, Any]]]

_BATCH = 100
_EVENTS_AT_ONCE = 1000
_OVERDUE_GRACE_S = 20
_LOG_TAIL_LENGTH = 2000
_STREAM_ID = re.compile(r"\d{1,20}(-\d{1,20})?")
_TIMES = ("created_at", "queued_at", "started_at", "finalizing_at", "ended_at", "updated_at")


class Conflict(Exception):
    """The record's state does not allow it; `code` is the problem code that says so."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(detail or code)
        self.code = code


class QueueFull(Exception):
    """The project has as many jobs queued as it may have."""


def connect(settings: Settings) -> redis.Redis:
    """A Redis client with deadlines, which tries again for about five seconds."""
    return redis.Redis.from_url(
        settings.redis_url,
        socket_timeout=10,
        socket_connect_timeout=5,
        socket_keepalive=True,
        health_check_interval=30,
        client_name="featherweight",
    )


class JobStore:
    """Job records. Any method may raise redis.RedisError when Redis cannot be reached."""

    def __init__(
        self, redis: redis.Redis, settings: Settings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock` says in seconds how long a caller has waited; all other times are Redis'."""
        self._redis = redis
        self._settings = settings
        self._clock = clock

    # For the service

    def create(
        self,
        project: str,
        request: JobRequest,
        *,
        job_id: str,
        queue: str = DEFAULT_QUEUE,
        request_id: str | None = None,
        origin: Origin | None = None,
    ) -> JobRecord:
        """A new job in state queued, or the one that exists under this id; QueueFull."""
        return _record(
            self._run(
                "create",
                checked(job_id),
                check_name(project),
                request.model_id,
                request.limits.max_queue_s,
                queue,
                request.model_dump_json(),
                request_id or "",
                "" if origin is None else origin.model_dump_json(),
                request.limits.max_total_s or "",
            )
        )

    def restore(self, record: JobRecord, *, attempts_before: int = 0) -> bool:
        """Put back a job that was lost with Redis; False when there is one under its id.

        One that ended is what `record` says. Any other is queued, and its next attempt has a higher number
        than `attempts_before`, so that none of those can pass for it. ValueError when `record` is of no job.
        """
        fields = stored_fields(record, attempts_before=attempts_before)
        state = record.state if record.done else JobState.QUEUED
        size = sum(artifact.bytes for artifact in record.artifacts)
        flat = [part for pair in fields.items() for part in pair]
        return bool(self._run("restore", checked(record.id), str(state), size, *flat))

    def discard(self, project: str, job_id: str) -> bool:
        """Forget a job that could not be submitted; False once a worker has seen it."""
        return bool(self._run("discard", checked(job_id), project))

    def get(self, project: str, job_id: str) -> JobRecord:
        """The record; NotFound also for another project's id."""
        record = self.find(job_id)
        if record is None or record.project != project:
            raise NotFound(job_id)
        return record

    def find(self, job_id: str) -> JobRecord | None:
        """The record, whichever project it belongs to: for workers."""
        if not is_id(job_id):
            return None
        fields = cast("dict[bytes, bytes]", self._redis.hgetall(_key(job_id)))
        return _record(fields) if fields else None

    def version(self, project: str, job_id: str) -> str:
        """Changes with every change of the public record."""
        if not is_id(job_id):
            raise NotFound(job_id)
        owner, version = cast("list[Any]", self._redis.hmget(_key(job_id), ["project", "version"]))
        if owner is None or text(owner) != project:
            raise NotFound(job_id)
        return text(version)

    def list(
        self,
        project: str,
        *,
        state: str | None = None,
        model_id: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> tuple[list[JobRecord], str | None]:
        """Newest first, and the cursor of what follows; ValueError for a cursor not of ours."""
        index = f"fw:jobs:{check_name(project)}"
        if model_id is not None:
            index += f":model:{model_id}"
        if state is not None:
            index += f":state:{state}"
        ids, following = page(self._redis, index, limit, cursor)
        pipeline = self._redis.pipeline(transaction=False)
        for job_id in ids:
            pipeline.hgetall(_key(job_id))
        return [_record(fields) for fields in pipeline.execute() if fields], following

    def request_cancel(self, project: str, job_id: str) -> JobRecord:
        """A queued job is cancelled at once, a running one is asked to stop, an ended one stays."""
        event = LogEvent(message="cancellation was requested").model_dump_json()
        fields = self._run("cancel", job_id, project, event) if is_id(job_id) else None
        if not fields:
            raise NotFound(job_id)
        return _record(fields)

    def wait_change(self, project: str, job_id: str, version: str, timeout_s: float) -> JobRecord:
        """The record as soon as its version is not `version`, or as it is after `timeout_s`."""
        deadline = self._clock() + timeout_s
        while True:
            # The stream's end is read first: a change after it wakes the read below.
            last = self._last_event(job_id) if is_id(job_id) else "0-0"
            record = self.get(project, job_id)
            left = deadline - self._clock()
            if record.version != version or record.done or left <= 0:
                return record
            self._read_events(job_id, last, left)

    def events(self, project: str, job_id: str, *, after: str = "0-0", block_s: float = 0) -> _Events:
        """At most 1000 events after stream id `after`, waiting up to `block_s` for the first.

        NotFound; ValueError when `after` is no stream id.
        """
        if not _STREAM_ID.fullmatch(after):
            raise ValueError(f"{after!r} is not an event id")
        self.version(project, job_id)
        deadline = self._clock() + block_s
        while True:
            found = self._read_events(job_id, after, deadline - self._clock())
            if found or self._clock() >= deadline:
                return found

    # For the worker

    def claim(self, job_id: str, worker: str) -> Claim | None:
        """Start the next attempt at the job whose turn it is in the queue of `job_id`.

        Of the projects with jobs queued, the one with the fewest running has it; among equals the one
        that had none for the longest time; within a project the oldest job. None when no job is queued
        whose project may have another running, and for an unknown `job_id`.
        """
        if not is_id(job_id):
            return None
        nonce = secrets.token_hex(8)
        fields = self._run("claim", job_id, worker, nonce, self._settings.lease_s)
        if not fields:
            return None
        record = _record(fields)
        return Claim(record, record.attempt, nonce)

    def renew(self, claim: Claim) -> Renewal:
        owned, cancel_requested = self._run("renew", *_token(claim), self._settings.lease_s)
        return Renewal(bool(owned), bool(cancel_requested))

    def poll(self, claim: Claim) -> Renewal:
        """What `renew` would answer, without renewing."""
        attempt, nonce, cancel_requested, state = cast(
            "list[Any]",
            self._redis.hmget(_key(claim.job_id), ["attempt", "nonce", "cancel_requested", "state"]),
        )
        owned = (
            state is not None
            and text(state) in ("running", "finalizing")
            and (text(attempt), text(nonce)) == (str(claim.attempt), claim.nonce)
        )
        return Renewal(owned, owned and cancel_requested is not None)

    def emit(self, claim: Claim, event: Event) -> bool:
        """Append to the job's events and fold stage, progress and where the attempt goes on into the record;
        False: not ours."""
        if isinstance(event, ResumedEvent):
            place = ResumedFrom.model_validate(event.model_dump()).model_dump_json(exclude_none=True)
            return bool(self._run("resumed", *_token(claim), event.model_dump_json(), place))
        stage = event.stage if isinstance(event, StageEvent | ProgressEvent) else ""
        progress = _progress(event).model_dump_json() if isinstance(event, ProgressEvent) else ""
        return bool(self._run("emit", *_token(claim), event.model_dump_json(), stage, progress))

    def finalizing(self, claim: Claim) -> bool:
        """The runner is done and its outputs are being stored; False: not ours."""
        return bool(self._run("finalizing", *_token(claim)))

    def commit(self, claim: Claim, outcome: Outcome) -> bool:
        """End the job; False: not ours any more. IllegalTransition: succeeded before finalizing."""
        fields: dict[str, str] = {}
        if outcome.verdict is not None:
            fields["verdict"] = outcome.verdict
        if outcome.artifacts:
            fields["artifacts"] = json.dumps([item.model_dump() for item in outcome.artifacts])
        if outcome.error is not None:
            fields["error"] = outcome.error.model_dump_json()
        flat = [part for pair in fields.items() for part in pair]
        evidence = json.dumps(outcome.evidence.fields())
        return bool(
            self._run("commit", *_token(claim), outcome.state.value, outcome.because, evidence, *flat)
        )

    def release(
        self, claim: Claim, reason: str, *, counted: bool = False, evidence: Evidence | None = None
    ) -> bool:
        """Give the job back; True when it is queued again.

        `reason` is a problem code. A `counted` attempt was lost: the job rests, longer after each of these,
        and after ``max_attempts`` of them it has failed. When it has rested the reaper announces it; any
        other may be announced at once.
        """
        told = json.dumps((evidence or Evidence()).fields())
        state = self._run("release", *_token(claim), reason, int(counted), _luck(), told)
        return state is not None and text(state) == "queued"

    # For the reaper

    def expire_leases(self) -> _Ids:
        """Take jobs from workers that stopped renewing; the ids that are queued again."""
        return self._ids("expire_leases", _BATCH, _luck())

    def expire_queued(self) -> _Ids:
        """End jobs that waited longer than max_queue_s; their ids."""
        return self._ids("expire_queued", _BATCH)

    def expire_overdue(self) -> _Ids:
        """End jobs that were not done within max_total_s; their ids. Attempts that run have some seconds to
        end by themselves first."""
        return self._ids("expire_overdue", _BATCH, _OVERDUE_GRACE_S)

    def stale_queued(self, older_than_s: float) -> _Ids:
        """Queued jobs that are due to be looked at; they are due again in `older_than_s`."""
        return self._ids("take_due", "fw:hints", 10 * _BATCH, older_than_s)

    def unannounced(self, queue: str, messages: int | None = None) -> _Ids:
        """Jobs that could be claimed now, as many as there are more of them than `messages` in the
        queue; without `messages` the broker is asked for its length."""
        return self._ids("unannounced", queue, "" if messages is None else messages)

    def unsettled(self, again_after_s: float = 30) -> _Ids:
        """Ended jobs whose result nobody has written yet; they are due again in `again_after_s`."""
        return self._ids("take_due", "fw:unsettled", _BATCH, again_after_s)

    def settled(self, job_id: str) -> None:
        """The job's result.json is written and storage holds nothing else of it."""
        self._redis.zrem("fw:unsettled", job_id)

    # Inside

    def _run(self, script: str, *args: str | float) -> Any:
        try:
            return self._scripts[script](keys=[], args=list(args))
        except redis.ResponseError as error:
            _, illegal, sentence = str(error).rpartition("ILLEGAL ")
            if illegal:
                raise IllegalTransition(sentence) from error
            if "QUEUE_FULL" in str(error):
                raise QueueFull from error
            raise

    def _ids(self, script: str, *args: str | float) -> _Ids:
        return [text(job_id) for job_id in self._run(script, *args)]

    @cached_property
    def _scripts(self) -> Mapping[str, Any]:
        return load_scripts(self._redis, self._settings)

    def _last_event(self, job_id: str) -> str:
        newest = cast("list[Any]", self._redis.xrevrange(f"{_key(job_id)}:events", count=1))
        return text(newest[0][0]) if newest else "0-0"

    def _read_events(self, job_id: str, after: str, block_s: float) -> _Events:
        # Well under the socket's timeout; the callers ask again.
        block_ms = int(1000 * min(block_s, 5)) or None if block_s > 0 else None
        stream = f"{_key(job_id)}:events"
        answer = cast("list[Any]", self._redis.xread({stream: after}, count=_EVENTS_AT_ONCE, block=block_ms))
        return [
            (text(event_id), json.loads(_get(fields, "e")))
            for _, entries in answer
            for event_id, fields in entries
        ]


def _key(job_id: str) -> str:
    return f"fw:job:{job_id}"


def _token(claim: Claim) -> tuple[str, int, str]:
    return claim.job_id, claim.attempt, claim.nonce


def _progress(event: ProgressEvent) -> Progress:
    return Progress.model_validate(event.model_dump(exclude={"type", "stage"}))


def _get(fields: Mapping[Any, Any], name: str) -> str:
    return text(fields[name] if name in fields else fields[name.encode()])


def _pairs(answer: Mapping[Any, Any] | Iterable[Any]) -> dict[str, str]:
    """A hash as a script (a flat list) or a command (a mapping) answers it."""
    if isinstance(answer, Mapping):
        return {text(name): text(value) for name, value in answer.items()}
    flat = [text(item) for item in answer]
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _record(answer: Mapping[Any, Any] | Iterable[Any]) -> JobRecord:
    fields = _pairs(answer)
    request = json.loads(fields["request"])
    attempts = [_attempt(item) for item in json.loads(fields["attempts"])]
    return JobRecord.model_validate(
        {
            **request,
            **{name: _time(fields[name]) for name in _TIMES if name in fields},
            "id": fields["id"],
            "project": fields["project"],
            "queue": fields["queue"],
            "version": fields["version"],
            "request_id": fields.get("request_id") or None,
            "state": fields["state"],
            "done": not TRANSITIONS[fields["state"]],  # type: ignore[index]
            "verdict": fields.get("verdict"),
            "stage": fields.get("stage"),
            "progress": json.loads(fields.get("progress", "{}")),
            "attempt": int(fields["attempt"]),
            "attempts": attempts,
            "losses": int(fields["losses"]),
            "worker": fields.get("worker"),
            "lease_until": float(fields["lease_until"]) if "lease_until" in fields else None,
            "origin": json.loads(fields["origin"]) if fields.get("origin") else None,
            "cancel_requested": fields.get("cancel_requested") == "1",
            "error": _error(fields.get("error"), fields.get("request_id"), attempts),
            "artifacts": json.loads(fields.get("artifacts", "[]")),
        }
    )


def _attempt(item: dict[str, Any]) -> Attempt:
    times = {name: _time(value) for name, value in item.items() if name.endswith("_at")}
    tail = item.get("log_tail")
    return Attempt.model_validate({**item, **times, "log_tail": tail and tail[-_LOG_TAIL_LENGTH:]})


def _error(stored: str | None, request_id: str | None, attempts: Sequence[Attempt]) -> Problem | None:
    if stored is None:
        return None
    error = with_evidence(Problem.model_validate_json(stored), attempts)
    return (
        error if error.request_id or not request_id else error.model_copy(update={"request_id": request_id})
    )


def _time(seconds: str) -> datetime:
    return datetime.fromtimestamp(float(seconds), UTC)


def _luck() -> float:
    return random.random()  # noqa: S311 - so that jobs lost together do not come back together
