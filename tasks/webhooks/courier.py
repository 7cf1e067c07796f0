"""What the courier does for a message of the queue ``webhooks``, and how what is due is announced."""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime

import redis

from tasks.queue import WEBHOOKS, Queue
from tasks.settings import Settings
from tasks.webhooks.deliveries import DeliveryClaim, DeliveryStore, Outcome
from tasks.webhooks.endpoints import EndpointStore
from tasks.webhooks.notices import WebhookNotices
from tasks.webhooks.retries import RetryPolicy
from tasks.webhooks.sender import Sender, make_poster

__all__ = ["Announcer", "Deliverer"]

_log = logging.getLogger(__name__)

# Then the thread is somebody else's: schedules are fired by the same ones.
_BUSY_S = 5.0
# Less than what a lease has on top of an attempt.
_RECORD_FOR_S = 6.0
# Each has as much done as there is to do.
_MESSAGES = 16


class Deliverer:
    """Attempts deliveries as long as there are any that are due. Safe to use from many threads.

    `most_slow` threads at most wait for endpoints that were slow or failed last time: the others are there
    for those that answer.
    """

    def __init__(
        self,
        settings: Settings,
        client: redis.Redis,
        queue: Queue,
        *,
        most_slow: int,
        sender: Sender | None = None,
    ) -> None:
        self._deliveries = DeliveryStore(client, settings)
        self._endpoints = EndpointStore(client, settings)
        self._notices = WebhookNotices(client, settings, queue)
        self._sender = sender or Sender(make_poster(settings), RetryPolicy.of(settings))
        self._slow = threading.BoundedSemaphore(most_slow)

    def __call__(self, delivery_id: str) -> None:
        """All that `delivery_id` says is that something is due. redis.RedisError."""
        until = time.monotonic() + _BUSY_S
        while self._one():
            if time.monotonic() > until:
                self._notices.announce(delivery_id)
                return

    def _one(self) -> bool:
        """Whether there was something to be done."""
        may_wait = self._slow.acquire(blocking=False)
        try:
            claim = self._deliveries.claim(slow=may_wait)
            if may_wait and not (claim is not None and claim.slow):
                self._slow.release()
                may_wait = False
            if claim is not None:
                self._attempt(claim)
            return claim is not None
        finally:
            if may_wait:
                self._slow.release()

    def _attempt(self, claim: DeliveryClaim) -> None:
        endpoint = self._endpoints.find(claim.endpoint_id)
        body = self._deliveries.body(claim.event_id)
        started_at = datetime.now(UTC)
        if endpoint is None:
            outcome = Outcome("gone")
        elif body is None:
            outcome = Outcome(
                "event_expired", error="event_expired", detail="what was to be sent is not kept any more"
            )
        else:
            secrets = self._endpoints.secrets.valid(endpoint.id)
            outcome = self._sender.attempt(claim, endpoint.url, secrets, body)
        _log.info("%s attempt %d: %s %s", claim.id, claim.attempt, outcome.follows, outcome.error or "")
        if self._recorded(claim, outcome, started_at) == "disabled":
            self._tell_disabled(claim)

    def _recorded(self, claim: DeliveryClaim, outcome: Outcome, started_at: datetime) -> str:
        """The answer of `DeliveryStore.record`. What cannot be recorded is attempted again once the lease is
        over: better twice than never."""
        until = time.monotonic() + _RECORD_FOR_S
        while True:
            try:
                return self._deliveries.record(claim, outcome, started_at)
            except redis.RedisError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.5)

    def _tell_disabled(self, claim: DeliveryClaim) -> None:
        endpoint = self._endpoints.find(claim.endpoint_id)
        if endpoint is None:
            return
        _log.warning("%s of %s is disabled: %s", endpoint.id, endpoint.project, endpoint.disabled_reason)
        data = endpoint.public().model_dump(mode="json", exclude={"secret"})
        subject = f"{endpoint.id}/{endpoint.disabled_at}"
        self._notices.tell(endpoint.project, "webhook_endpoint.disabled", subject, data)


class Announcer:
    """A chore: what is due and has no message any more is announced, what a lost courier had is given back,
    and what was deleted is forgotten."""

    def __init__(self, settings: Settings, client: redis.Redis, queue: Queue) -> None:
        self._redis = client
        self._deliveries = DeliveryStore(client, settings)
        self._notices = WebhookNotices(client, settings, queue)

    def __call__(self) -> None:
        """redis.RedisError."""
        if lost := self._deliveries.take_back():
            _log.warning("%d deliveries lost their courier and wait again", lost)
        self._deliveries.purge()
        waiting = self._deliveries.waiting()
        missing = min(len(waiting), _MESSAGES) - self._redis.llen(WEBHOOKS)
        for delivery_id in waiting[: max(0, missing)]:
            self._notices.announce(delivery_id)
