"""Deliveries in Redis: an event on its way to one endpoint.

pending ──> succeeded
   │
   └──────> failed      (its attempts are used up, 410, or it could not even begin)

A claim is good for a lease, and known by its nonce: of a courier that was frozen or cut off, and whose
delivery was attempted again by another, nothing is recorded any more. What was claimed and not recorded
within the lease waits again.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast

import redis

from featherweight.webhooks import DeliveryAttempt, WebhookDelivery
from tasks.identifiers import is_id, new_id
from tasks.recordstore import NotFound, page, text
from tasks.settings import Settings
from tasks.webhooks.retries import RetryPolicy
from tasks.webhooks.scripts import Scripts, moment, pairs

__all__ = [
    "STATES",
    "DeliveryClaim",
    "DeliveryRecord",
    "DeliveryState",
    "DeliveryStore",
    "EventExpired",
    "Outcome",
]

# Named here because inside the class `list` is a method.
_Texts = list[str]
_Dated = list[tuple[str, float]]

DeliveryState = Literal["pending", "succeeded", "failed"]
STATES: tuple[DeliveryState, ...] = ("pending", "succeeded", "failed")

# Longer than any attempt: it has a deadline of its own.
_LEASE_ON_TOP_S = 10.0
_BATCH = 100
_REPLAYED_AT_ONCE = 500
_LOST = {
    "number": "NUMBER",
    "started_at": "AT_TIME",
    "error": "courier_lost",
    "detail": "the courier was lost before it could say what came of it",
}


class EventExpired(Exception):
    """What was sent is not kept any more."""


class DeliveryRecord(WebhookDelivery):
    project: str

    def public(self) -> WebhookDelivery:
        return WebhookDelivery.model_validate(self.model_dump(include=set(WebhookDelivery.model_fields)))


_Records = list[DeliveryRecord | None]


@dataclass(frozen=True)
class DeliveryClaim:
    """The right to attempt number `attempt` of a delivery, of an endpoint that is known to be `slow`."""

    id: str
    nonce: str
    project: str
    endpoint_id: str
    event_id: str
    attempt: int
    slow: bool


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt. `follows` is delivered, retry (in `pause_s`), or why there is no other: gone,
    attempts_used_up, event_expired. For `rest_s` the endpoint wants nothing at all."""

    follows: str
    pause_s: float = 0.0
    rest_s: float = 0.0
    latency_ms: int | None = None
    status_code: int | None = None
    error: str | None = None
    detail: str | None = None
    response_body: str | None = None

    def said(self, attempt: int, started_at: datetime) -> str:
        """The attempt as it stands in the log."""
        shown = {
            "number": attempt,
            "started_at": started_at.timestamp(),
            "latency_ms": self.latency_ms,
            "status_code": self.status_code,
            "error": self.error,
            "detail": self.detail,
            "response_body": self.response_body,
        }
        return json.dumps({name: value for name, value in shown.items() if value is not None})


class DeliveryStore:
    """Any method may raise redis.RedisError."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._redis = client
        self._lease_s = settings.webhook_timeout_s + _LEASE_ON_TOP_S
        self._attempts = RetryPolicy.of(settings).attempts
        self._run = Scripts(client, settings)

    # For the service

    def get(self, project: str, endpoint_id: str, id: str) -> DeliveryRecord:
        """NotFound also for what is another project's or endpoint's."""
        record = self._found([id])[0] if is_id(id) else None
        if record is None or (record.project, record.endpoint_id) != (project, endpoint_id):
            raise NotFound(id)
        return record

    def list(
        self, endpoint_id: str, *, state: str | None = None, limit: int = 20, cursor: str | None = None
    ) -> tuple[list[DeliveryRecord], str | None]:
        """Newest first, and the cursor of what follows; ValueError for a cursor not of ours."""
        index = _log(endpoint_id, state)
        ids, following = page(self._redis, index, limit, cursor)
        records = self._found(ids)
        if expired := [id for id, record in zip(ids, records, strict=True) if record is None]:
            self._redis.zrem(index, *expired)
        return [record for record in records if record is not None], following

    def replay(self, project: str, endpoint_id: str, id: str, *, new_id: str) -> DeliveryRecord:
        """Make it again: a new delivery of the same event. One that still waits is due now instead.

        NotFound, EventExpired.
        """
        made = text(self._run("replay", new_id, project, endpoint_id, id)) if is_id(id) else ""
        if made == "expired":
            raise EventExpired(id)
        if not made:
            raise NotFound(id)
        return self.get(project, endpoint_id, made)

    def replay_failed(
        self, project: str, endpoint_id: str, since: datetime, until: datetime | None
    ) -> tuple[_Texts, datetime | None]:
        """Make again what failed of the deliveries created from `since` to `until`, the oldest first, at most
        500; the ids of those made, and where to go on."""
        made: list[str] = []
        start, stop = since.timestamp(), (until or datetime.now(UTC)).timestamp()
        # Those that are made again have a higher sequence, and do not stand among the failed.
        for old, created in self._failed(endpoint_id):
            if not start <= created <= stop:
                continue
            if len(made) == _REPLAYED_AT_ONCE:
                return made, datetime.fromtimestamp(created, UTC)
            try:
                made.append(self.replay(project, endpoint_id, old, new_id=new_id("delivery")).id)
            except (EventExpired, NotFound):
                continue
        return made, None

    # For the courier

    def claim(self, *, slow: bool = True) -> DeliveryClaim | None:
        """The delivery whose turn it is, of a slow endpoint only if `slow`; None when there is none, or all
        endpoints and projects have as many requests as they may have."""
        answer = self._run("claim", secrets.token_hex(8), self._lease_s, int(slow))
        if not answer:
            return None
        fields = pairs(answer[1])
        return DeliveryClaim(
            id=fields["id"],
            nonce=fields["nonce"],
            project=fields["project"],
            endpoint_id=fields["endpoint_id"],
            event_id=fields["event_id"],
            attempt=int(fields["attempt"]),
            slow=bool(answer[0]),
        )

    def body(self, event_id: str) -> bytes | None:
        """What is sent; None when it is not kept any more."""
        return cast("bytes | None", self._redis.hget(f"fw:webhooks:event:{event_id}", "body"))

    def record(self, claim: DeliveryClaim, outcome: Outcome, started_at: datetime) -> str:
        """End the attempt: ok, disabled when that disabled the endpoint, '' when the claim is lost."""
        said = outcome.said(claim.attempt, started_at)
        return text(
            self._run(
                "record",
                claim.id,
                claim.nonce,
                said,
                outcome.follows,
                outcome.pause_s,
                outcome.rest_s,
                outcome.latency_ms or 0,
            )
        )

    # For the reaper

    def take_back(self) -> int:
        """Let those wait again whose courier is lost; how many."""
        return cast("int", self._run("take_back", _BATCH, self._attempts, json.dumps(_LOST)))

    def waiting(self) -> _Texts:
        """Ids of deliveries that are due, one of each endpoint and at most 100."""
        return [text(id) for id in self._run("waiting", _BATCH)]

    def purge(self) -> int:
        """Forget some deliveries of endpoints that were deleted; how many."""
        return cast("int", self._run("purge", _BATCH))

    # Inside

    def _failed(self, endpoint_id: str) -> _Dated:
        """Those that failed, and when they were created, the oldest first."""
        ids = [text(id) for id in self._redis.zrange(_log(endpoint_id, "failed"), 0, -1)]
        pipeline = self._redis.pipeline(transaction=False)
        for id in ids:
            pipeline.hget(f"fw:webhooks:delivery:{id}", "created_at")
        created = pipeline.execute()
        return [(id, float(at)) for id, at in zip(ids, created, strict=True) if at is not None]

    def _found(self, ids: _Texts) -> _Records:
        pipeline = self._redis.pipeline(transaction=False)
        for id in ids:
            pipeline.hgetall(f"fw:webhooks:delivery:{id}")
            pipeline.lrange(f"fw:webhooks:delivery:{id}:attempts", 0, -1)
        answers = pipeline.execute()
        return [_record(pairs(answers[i]), answers[i + 1]) for i in range(0, len(answers), 2)]


def _log(endpoint_id: str, state: str | None) -> str:
    return f"fw:webhooks:log:{endpoint_id}" + ("" if state is None else f":{state}")


def _record(fields: dict[str, str], attempts: list[Any]) -> DeliveryRecord | None:
    if "id" not in fields:
        return None
    names = ("id", "project", "endpoint_id", "event_id", "event_type", "state", "replay_of", "ended_because")
    return DeliveryRecord.model_validate(
        {
            **{name: fields.get(name) for name in names},
            **{name: moment(fields, name) for name in ("next_attempt_at", "created_at", "ended_at")},
            "attempts": [_attempt(json.loads(item)) for item in attempts],
        }
    )


def _attempt(stored: dict[str, Any]) -> DeliveryAttempt:
    # Of a lost one Redis has put in the number and the time, as text.
    at = datetime.fromtimestamp(float(stored["started_at"]), UTC)
    return DeliveryAttempt.model_validate({**stored, "number": int(stored["number"]), "started_at": at})
