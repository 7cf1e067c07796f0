"""Events told: stored once, with a delivery for each endpoint that wants them."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import redis
from kombu.exceptions import OperationalError

from featherweight.webhooks import TEST_EVENT
from tasks.identifiers import check_name, new_id
from tasks.messages import DELIVER, NoMessageKey
from tasks.notices import EventType
from tasks.queue import WEBHOOKS, Queue
from tasks.records import JobRecord
from tasks.recordstore import text
from tasks.settings import Settings
from tasks.webhooks.endpoints import EndpointRecord
from tasks.webhooks.events import event_body, event_id, job_data
from tasks.webhooks.scripts import Scripts

__all__ = ["JobNotices", "WebhookNotices"]

_log = logging.getLogger(__name__)


class WebhookNotices:
    """`tasks.notices.Notices`, by webhooks. Safe to use from many threads."""

    def __init__(self, client: redis.Redis, settings: Settings, queue: Queue) -> None:
        self._redis = client
        self._run = Scripts(client, settings)
        self._queue = queue

    def tell(
        self,
        project: str,
        type: EventType,
        subject: str,
        data: dict[str, Any],
        *,
        at: datetime | None = None,
    ) -> None:
        """See `tasks.notices.Notices`. `at` is when it happened, now unless given."""
        # Most projects have no endpoint, and then there is nothing to remember.
        count = self._redis.zcard(f"fw:webhooks:endpoints:{check_name(project)}")
        if count:
            ids = [new_id("delivery") for _ in range(count)]
            self._tell(event_id(project, type, subject), project, type, data, at, "", ids)

    def test(self, endpoint: EndpointRecord, *, delivery_id: str) -> None:
        """A test event for this endpoint alone, whose delivery has this id. Nothing when it is disabled."""
        id = event_id(endpoint.project, TEST_EVENT, delivery_id)
        data = {"endpoint_id": endpoint.id, "message": "This is a test."}
        self._tell(id, endpoint.project, TEST_EVENT, data, None, endpoint.id, [delivery_id])

    def announce(self, delivery_id: str) -> None:
        """Wake the courier. A message that cannot be sent is one that got lost: what is due is looked for."""
        try:
            self._queue.send(DELIVER, delivery_id, queue=WEBHOOKS)
        except (OperationalError, redis.RedisError, NoMessageKey) as error:
            _log.warning("%s is due and not announced: %s", delivery_id, error)

    def _tell(
        self,
        id: str,
        project: str,
        type: str,
        data: dict[str, Any],
        at: datetime | None,
        only: str,
        ids: list[str],
    ) -> None:
        when = "" if at is None else at.timestamp()
        for made in self._run("tell", id, project, type, event_body(id, type, data, at), when, only, *ids):
            self.announce(text(made))


class JobNotices:
    """A `tasks.settle.Listener`: tells of jobs that have ended, whoever submitted them."""

    def __init__(self, notices: WebhookNotices, settings: Settings) -> None:
        self._notices = notices
        self._remembered_s = settings.webhook_log_expiry_s

    def job_ended(self, record: JobRecord) -> None:
        ended = record.ended_at
        # One that ended so long ago was told of, and that it was may be forgotten.
        if ended is None or (datetime.now(UTC) - ended).total_seconds() > self._remembered_s:
            return
        type: Any = f"job.{record.state}"
        self._notices.tell(record.project, type, record.id, job_data(record.public()), at=ended)
