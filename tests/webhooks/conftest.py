"""Webhooks on a real Redis, as the courier's user, and a real receiver."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from deploy.local.redis_server import RedisServer
from featherweight.webhooks import WebhookEndpointRequest
from tasks.identifiers import new_id
from tasks.outbound import Policy, Poster
from tasks.queue import Queue, make_celery
from tasks.settings import Settings
from tasks.webhooks.courier import Announcer, Deliverer
from tasks.webhooks.deliveries import DeliveryRecord, DeliveryStore
from tasks.webhooks.endpoints import EndpointRecord, EndpointStore
from tasks.webhooks.notices import WebhookNotices
from tasks.webhooks.retries import RetryPolicy
from tasks.webhooks.sender import Sender
from tests.webhooks.receiver import Receiver, receiver

PROJECT = "observatory"


@pytest.fixture(scope="session")
def redis_url(redis_server: RedisServer) -> str:
    """How the courier connects."""
    return redis_server.url("courier")


@pytest.fixture
def served() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


@pytest.fixture
def settings(settings: Settings, served: Receiver) -> Settings:
    return settings.model_copy(
        update={
            "webhook_trusted_origins": served.origin,
            "webhook_timeout_s": 0.5,
            "webhook_retry_delays_s": "0,0",
            "reaper_interval_s": 0.5,
        }
    )


class Office:
    """Endpoints, events and a courier in this process."""

    def __init__(self, settings: Settings, client: redis.Redis, served: Receiver) -> None:
        self.settings = settings
        self.client = client
        self.served = served
        self.queue = Queue(make_celery(settings))
        self.endpoints = EndpointStore(client, settings)
        self.deliveries = DeliveryStore(client, settings)
        self.notices = WebhookNotices(client, settings, self.queue)
        self.announcer = Announcer(settings, client, self.queue)

    def endpoint(self, path: str = "/hook", *, url: str | None = None, **fields: Any) -> EndpointRecord:
        fields.setdefault("events", ["*"])
        wanted = WebhookEndpointRequest(url=url or self.served.origin + path, **fields)
        return self.endpoints.create(PROJECT, wanted, id=new_id("endpoint"))[0]

    def secrets(self, endpoint: EndpointRecord) -> list[str]:
        return self.endpoints.secrets.valid(endpoint.id)

    def tell(self, subject: str = "job_a", type: Any = "job.succeeded", **data: Any) -> None:
        self.notices.tell(PROJECT, type, subject, {"id": subject, "object": "job", **data})

    def deliverer(self, **poster: Any) -> Deliverer:
        """With `poster`, one that sends by other means."""
        if not poster:
            return Deliverer(self.settings, self.client, self.queue, most_slow=4)
        poster = {"policy": Policy(), "user_agent": "test", "timeout_s": 1.0, **poster}
        sender = Sender(Poster(**poster), RetryPolicy.of(self.settings))
        return Deliverer(self.settings, self.client, self.queue, most_slow=4, sender=sender)

    def deliver(self, **poster: Any) -> None:
        """All that is due now, and what becomes due by it."""
        self.deliverer(**poster)("dlv_any")

    def log(self, endpoint: EndpointRecord, state: str | None = None) -> list[DeliveryRecord]:
        return self.deliveries.list(endpoint.id, state=state, limit=100)[0]

    def only(self, endpoint: EndpointRecord) -> DeliveryRecord:
        """The one delivery there is."""
        (found,) = self.log(endpoint)
        return found

    def again(self, endpoint: EndpointRecord) -> EndpointRecord:
        return self.endpoints.get(PROJECT, endpoint.id)


@pytest.fixture
def office(settings: Settings, redis_client: redis.Redis, served: Receiver) -> Office:
    return Office(settings, redis_client, served)


def with_settings(office: Office, **changes: Any) -> Office:
    return Office(office.settings.model_copy(update=changes), office.client, office.served)


def seconds_from_now(moment: datetime | None) -> float:
    assert moment is not None
    return (moment - datetime.now(UTC)).total_seconds()
