"""What is kept of deliveries and for how long, what a lost courier leaves, and who may see secrets."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from deploy.local.redis_server import RedisServer
from featherweight.webhooks import WebhookEndpointRequest
from tasks.listeners import attendants
from tasks.queue import WEBHOOKS, Queue, make_celery
from tasks.recordstore import NotFound
from tasks.settings import Settings
from tasks.settle import Settler
from tasks.storage import Storage
from tasks.store import JobStore
from tasks.webhooks.deliveries import Outcome
from tasks.webhooks.events import LARGEST_DATA, event_body
from tasks.webhooks.notices import JobNotices
from tasks.webhooks.retries import RetryPolicy
from tests.tasks.conftest import submit
from tests.webhooks.conftest import PROJECT, Office, with_settings


def lose_courier(office: Office) -> None:
    """As if the leases had run out."""
    for id in office.client.zrange("fw:webhooks:leases", 0, -1):
        office.client.zadd("fw:webhooks:leases", {id: 0})


def test_what_a_lost_courier_had_is_delivered_by_another_under_the_same_id(office: Office) -> None:
    endpoint = office.endpoint()
    office.tell()
    lost = office.deliveries.claim()
    assert lost is not None
    office.deliver()
    assert office.served.requests == []
    lose_courier(office)
    office.announcer()
    office.deliver()
    delivery = office.only(endpoint)
    assert delivery.state == "succeeded"
    assert [each.error for each in delivery.attempts] == ["courier_lost", None]
    assert [each.number for each in delivery.attempts] == [1, 2]
    assert [request.id for request in office.served.requests] == [lost.event_id]
    # The lost one comes back and changes nothing.
    assert office.deliveries.record(lost, Outcome("gone"), datetime.now(UTC)) == ""
    assert office.only(endpoint) == delivery
    assert not office.again(endpoint).disabled


def test_couriers_that_are_lost_again_and_again_use_up_the_attempts(office: Office) -> None:
    endpoint = office.endpoint()
    office.tell()
    for _ in range(3):
        assert office.deliveries.claim() is not None
        lose_courier(office)
        office.announcer()
    assert office.deliveries.claim() is None
    delivery = office.only(endpoint)
    assert (delivery.state, delivery.ended_because) == ("failed", "attempts_used_up")


def test_what_is_due_and_has_no_message_is_announced(office: Office) -> None:
    for number in range(3):
        office.endpoint(f"/{number}")
    office.tell()
    office.client.delete(WEBHOOKS)
    office.announcer()
    assert office.client.llen(WEBHOOKS) == 3
    office.announcer()
    assert office.client.llen(WEBHOOKS) == 3
    office.deliver()
    office.client.delete(WEBHOOKS)
    office.announcer()
    assert office.client.llen(WEBHOOKS) == 0


def test_to_one_endpoint_two_at_once_and_one_when_it_fails(office: Office) -> None:
    endpoint = office.endpoint()
    for number in range(5):
        office.tell(f"job_{number}")
    claims = [office.deliveries.claim() for _ in range(3)]
    assert [claim is not None for claim in claims] == [True, True, False]
    assert claims[0] is not None
    failed = Outcome("retry", pause_s=100, error="timeout")
    assert office.deliveries.record(claims[0], failed, datetime.now(UTC)) == "ok"
    assert office.deliveries.claim() is None
    assert claims[1] is not None
    office.deliveries.record(claims[1], failed, datetime.now(UTC))
    assert office.deliveries.claim(slow=False) is None
    claim = office.deliveries.claim()
    assert claim is not None
    assert claim.slow
    assert office.deliveries.claim() is None
    office.deliveries.record(claim, Outcome("delivered", latency_ms=3), datetime.now(UTC))
    claims = [office.deliveries.claim(slow=False) for _ in range(3)]
    assert [claim is not None for claim in claims] == [True, True, False]
    assert office.again(endpoint).pending == 4


def test_a_project_has_four_at_once_whatever_it_has_waiting(office: Office) -> None:
    for number in range(4):
        office.endpoint(f"/{number}")
    wanted = WebhookEndpointRequest(url=f"{office.served.origin}/other", events=["*"])
    other, _ = office.endpoints.create("other", wanted, id="whe_other")
    office.tell("job_a")
    office.tell("job_b")
    office.notices.tell("other", "job.failed", "job_c", {"id": "job_c"})
    claims = [office.deliveries.claim() for _ in range(6)]
    projects = [claim.project for claim in claims if claim is not None]
    assert sorted(projects) == [PROJECT] * 4 + ["other"]
    assert other.project == "other"


def test_one_claim_whose_answer_got_lost_is_one(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.endpoint()
    office.tell("job_a")
    office.tell("job_b")
    monkeypatch.setattr("secrets.token_hex", lambda size: "the same")
    first, second = office.deliveries.claim(), office.deliveries.claim()
    assert first is not None
    assert second is not None
    assert (first.id, first.nonce) == (second.id, second.nonce)


def test_many_couriers_deliver_each_event_once(office: Office) -> None:
    endpoints = [office.endpoint(f"/{number}") for number in range(3)]
    tellers = [
        threading.Thread(target=lambda: [office.tell(f"job_{number}") for number in range(20)])
        for _ in range(3)
    ]
    for thread in tellers:
        thread.start()
    for thread in tellers:
        thread.join()
    couriers = [threading.Thread(target=office.deliver) for _ in range(6)]
    for thread in couriers:
        thread.start()
    for thread in couriers:
        thread.join()
    assert len(office.served.requests) == 60
    assert len({(request.path, request.id) for request in office.served.requests}) == 60
    for endpoint in endpoints:
        assert {each.state for each in office.log(endpoint)} == {"succeeded"}


def test_the_log_is_bounded_and_the_oldest_goes_first(office: Office) -> None:
    office = with_settings(office, webhook_log_max=10)
    endpoint = office.endpoint()
    for number in range(30):
        office.tell(f"job_{number}")
        office.deliver()
    assert len(office.served.requests) == 30
    kept = [each.event_id for each in office.log(endpoint)]
    assert kept == [request.id for request in reversed(office.served.requests)][:10]
    assert office.client.zcard(f"fw:webhooks:log:{endpoint.id}:succeeded") == 10


def test_more_than_may_wait_has_failed_and_can_be_sent_again(office: Office) -> None:
    office = with_settings(office, webhook_log_max=10)
    endpoint = office.endpoint()
    for number in range(12):
        office.tell(f"job_{number}")
    full = office.log(endpoint, "failed")
    assert [each.ended_because for each in full] == ["backlog_full"] * 2
    assert len(office.log(endpoint, "pending")) == 10
    office.deliver()
    office.deliveries.replay(PROJECT, endpoint.id, full[0].id, new_id="dlv_again")
    office.deliver()
    assert len({request.id for request in office.served.requests}) == 11


def test_what_has_ended_is_kept_for_its_time(office: Office, redis_admin: redis.Redis) -> None:
    office = with_settings(office, webhook_log_expiry_s=3600)
    endpoint = office.endpoint()
    office.tell()
    delivery = office.only(endpoint)
    assert redis_admin.ttl(f"fw:webhooks:delivery:{delivery.id}") == -1
    assert redis_admin.ttl(f"fw:webhooks:event:{delivery.event_id}") > 3 * 86_400
    office.deliver()
    for name in (f"fw:webhooks:delivery:{delivery.id}", f"fw:webhooks:delivery:{delivery.id}:attempts"):
        assert 3500 < redis_admin.ttl(name) <= 3600
    redis_admin.delete(f"fw:webhooks:delivery:{delivery.id}")
    assert office.log(endpoint) == []
    office.tell("job_b")
    assert redis_admin.zcard(f"fw:webhooks:log:{endpoint.id}") == 1


def test_an_event_that_is_kept_no_longer_is_not_sent(office: Office, redis_admin: redis.Redis) -> None:
    endpoint = office.endpoint()
    office.tell()
    redis_admin.delete(f"fw:webhooks:event:{office.only(endpoint).event_id}")
    office.deliver()
    assert office.served.requests == []
    assert office.only(endpoint).ended_because == "event_expired"
    assert office.again(endpoint).failing_since is None


def test_an_endpoint_removed_in_the_middle_of_an_attempt_leaves_nothing(
    office: Office, redis_admin: redis.Redis
) -> None:
    endpoint = office.endpoint()
    for number in range(250):
        office.tell(f"job_{number}")
    claim = office.deliveries.claim()
    assert claim is not None
    office.endpoints.delete(PROJECT, endpoint.id)
    for _ in range(5):
        office.announcer()
    assert office.deliveries.record(claim, Outcome("retry"), datetime.now(UTC)) == ""
    left = {key.decode().split(":")[1:3][-1] for key in redis_admin.keys("fw:webhooks:*")}
    assert left <= {"event", "sequence", "claimed"}
    with pytest.raises(NotFound):
        office.endpoints.rotate(PROJECT, endpoint.id, 0)
    with pytest.raises(NotFound):
        office.endpoints.secrets.rotate(endpoint.id, 0)


def test_workers_tell_of_events_and_see_no_secret(
    office: Office, redis_server: RedisServer, settings: Settings, storage: Storage
) -> None:
    """What workers do, as their user: the listener and the chore."""
    endpoint = office.endpoint()
    with redis.Redis.from_url(redis_server.url("worker")) as client:
        store, queue = JobStore(client, settings), Queue(make_celery(settings))
        besides = attendants(settings, client, store, storage, queue)
        job = submit(client, store, storage, project=PROJECT)
        store.request_cancel(PROJECT, job.id)
        ended = store.get(PROJECT, job.id)
        for _ in range(2):
            Settler(store, storage, besides.listeners).settle(ended)
        for chore in besides.chores:
            chore()
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.get(f"fw:kwh:{endpoint.id}")
    office.deliver()
    (request,) = office.served.requests
    event = request.verified(*office.secrets(endpoint))
    assert (event.type, event.job, event.timestamp) == ("job.cancelled", ended.public(), ended.ended_at)


def test_a_job_that_ended_longer_ago_than_events_are_remembered_is_no_news(
    office: Office, settings: Settings, storage: Storage
) -> None:
    endpoint = office.endpoint()
    store = JobStore(office.client, settings)
    job = submit(office.client, store, storage, project=PROJECT)
    store.request_cancel(PROJECT, job.id)
    record = store.get(PROJECT, job.id)
    long_ago = datetime.now(UTC) - timedelta(days=31)
    JobNotices(office.notices, settings).job_ended(record.model_copy(update={"ended_at": long_ago}))
    assert office.log(endpoint) == []


def test_projects_without_endpoints_leave_nothing(office: Office, redis_admin: redis.Redis) -> None:
    office.tell()
    assert redis_admin.keys("fw:webhooks:*") == []


@pytest.mark.parametrize("data", [
    {"id": "job_a", "object": "job", "spec": {"x": "y" * 30_000}, "state": "failed"},
    {"id": "job_a", "object": "job", "spec": {"x": "y" * 9_000}, "attempts": ["z" * 15_000], "state": "x"},
    {"id": "job_a", "object": "job", "name": "\u2603" * 10_000, "state": "failed"},
    {"id": "job_a", "object": "job", "state": "failed",
     "error": {"code": "bad_model", "detail": "no", "errors": [{"pointer": "/x" * 20_000}]}},
])  # fmt: skip
def test_what_is_large_is_cut_where_it_is_large(data: dict[str, Any]) -> None:
    event = json.loads(event_body("evt_a", "job.failed", data))
    cut = event["data"]
    assert len(json.dumps(cut, ensure_ascii=False).encode()) <= LARGEST_DATA + 500
    assert (cut["id"], cut["state"], cut.keys()) == ("job_a", data["state"], data.keys())
    assert event["url"] == "/v1/jobs/job_a"
    assert event["truncated"]
    for name, value in cut.items():
        assert type(value) is type(data[name])
        assert (value == data[name]) is (f"/data/{name}" not in event["truncated"])
    if "error" in cut:
        assert cut["error"] == {"code": "bad_model", "detail": "no", "errors": []}


def test_what_is_small_is_whole() -> None:
    data = {"id": "job_a", "object": "job", "spec": {"x": "y" * 1000}}
    event = json.loads(event_body("evt_a", "job.failed", data))
    assert (event["data"], event["truncated"]) == (data, [])


def test_waits_are_drawn_around_their_means_and_end() -> None:
    policy = RetryPolicy([10.0, 100.0])
    waits = [policy.pause(2) for _ in range(200)]
    assert all(wait is not None and 50 <= wait <= 150 for wait in waits)
    assert len(set(waits)) > 100
    assert policy.pause(1, 3600) == 3600
    assert policy.pause(3) is policy.pause(3, 5) is None


@pytest.mark.parametrize("text", ["5,x", "-1", "nan", "1e9", "5;6"])
def test_waits_in_the_settings_are_seconds(settings: Settings, text: str) -> None:
    with pytest.raises(ValueError, match="WEBHOOK_RETRY_DELAYS_S"):
        RetryPolicy.of(settings.model_copy(update={"webhook_retry_delays_s": text}))
