"""``/v1/webhook_endpoints`` over the client library and over plain requests; a receiver is really there."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import redis
from flask import Flask

import featherweight
from featherweight.client import Client
from service.redaction import Redaction
from service.requestlog import OneLine
from service.services import NAME, Services
from tasks.settings import Settings
from tasks.webhooks.courier import Deliverer
from tasks.webhooks.notices import JobNotices
from tests.service.helpers import Caller, assert_problem
from tests.webhooks.receiver import Receiver, receiver

PATH = "/v1/webhook_endpoints"


@pytest.fixture
def served() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


@pytest.fixture
def settings(settings: Settings, served: Receiver) -> Settings:
    return settings.model_copy(
        update={
            "webhook_trusted_origins": served.origin,
            "webhook_endpoints": 3,
            "webhook_retry_delays_s": "0",
            "webhook_timeout_s": 0.5,
        }
    )


@pytest.fixture
def client(app: Flask, admin: Caller) -> Iterator[Client]:
    with Client("http://api.test", admin.key, transport=httpx.WSGITransport(app), max_retries=0) as client:
        yield client


@pytest.fixture
def url(served: Receiver) -> str:
    return f"{served.origin}/hook"


def deliver(parts: Services) -> None:
    Deliverer(parts.settings, parts.redis, parts.queue, most_slow=1)("dlv_any")


def test_from_creation_to_a_verified_event(
    client: Client, caller: Caller, parts: Services, served: Receiver, url: str
) -> None:
    endpoint = client.webhook_endpoints.create(
        url, events=["job.cancelled"], description="nightly", metadata={"team": "vision"}
    )
    assert endpoint.secret is not None
    assert endpoint.secret.startswith("whsec_")
    job_id = caller.job()
    caller.post(f"/v1/jobs/{job_id}/cancel")
    record = parts.jobs.get("acme", job_id)
    JobNotices(parts.webhooks, parts.settings).job_ended(record)
    deliver(parts)
    (request,) = served.requests
    event = featherweight.verify_webhook(request.body, request.headers, endpoint.secret)
    assert event.type == "job.cancelled"
    assert event.job == client.jobs.get(job_id)
    assert event.timestamp == record.ended_at
    assert event.url == f"/v1/jobs/{job_id}"
    (delivery,) = client.webhook_endpoints.deliveries(endpoint.id)
    assert (delivery.state, delivery.event_id, delivery.event_type) == ("succeeded", event.id, event.type)
    assert client.webhook_endpoints.delivery(endpoint.id, delivery.id) == delivery


def test_the_secret_is_shown_when_it_is_made_and_never_again(client: Client, admin: Caller, url: str) -> None:
    made = client.webhook_endpoints.create(url)
    rotated = client.webhook_endpoints.rotate_secret(made.id, overlap_hours=1)
    assert None not in (made.secret, rotated.secret)
    assert made.secret != rotated.secret
    assert client.webhook_endpoints.get(made.id).secret is None
    assert [each.secret for each in client.webhook_endpoints.list()] == [None]
    changed = admin("PATCH", f"{PATH}/{made.id}", json={"description": "x"})
    assert changed.json["secret"] is None
    assert "whsec_" not in admin.get("/v1/audit").text


def test_no_secret_gets_into_the_log(caplog: pytest.LogCaptureFixture, admin: Caller, url: str) -> None:
    answer = admin.post(PATH, json={"url": url, "events": ["*"]})
    with caplog.at_level(logging.INFO, logger="service"):
        logging.getLogger("service.test").info("made %s", answer.json["secret"])
    shown = Redaction(Settings())(OneLine().format(caplog.records[-1]))
    assert answer.json["secret"] not in shown
    assert "whsec_[hidden]" in shown


def test_sent_twice_under_one_key_makes_one_endpoint_with_one_secret(admin: Caller, url: str) -> None:
    body, key = {"url": url, "events": ["*"]}, {"Idempotency-Key": "once"}
    first, second = (admin.post(PATH, json=body, headers=key) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json == second.json
    assert first.headers["Location"] == f"{PATH}/{first.json['id']}"
    assert len(admin.get(PATH).json["data"]) == 1


@pytest.mark.parametrize("body", [
    {"url": "http://example.com/"},
    {"url": "https://127.0.0.1/"},
    {"url": "https://localhost/"},
    {"url": "https://169.254.169.254/latest/meta-data/"},
    {"url": "https://[::ffff:10.0.0.1]/"},
    {"url": "https://example.com:22/"},
    {"url": "https://user:pass@example.com/"},
    {"url": "ftp://example.com/"},
    {"url": "https://nowhere.invalid/"},
    {"url": "hooks"},
])  # fmt: skip
def test_a_url_that_nothing_is_sent_to_is_refused(admin: Caller, url: str, body: dict[str, str]) -> None:
    answer = admin.post(PATH, json={"events": ["*"], **body})
    assert_problem(answer, "url_not_allowed", pointers={"/url"})
    made = admin.post(PATH, json={"url": url, "events": ["*"]}).json
    assert_problem(admin("PATCH", f"{PATH}/{made['id']}", json=body), "url_not_allowed", pointers={"/url"})
    assert admin.get(f"{PATH}/{made['id']}").json["url"] == url
    assert len(admin.get(PATH).json["data"]) == 1


@pytest.mark.parametrize(("change", "pointer"), [
    ({"events": []}, "/events"),
    ({"events": ["job.exploded"]}, "/events/0"),
    ({"events": "*"}, "/events"),
    ({"events": None}, "/events"),
    ({"url": 7}, "/url"),
    ({"url": ""}, "/url"),
    ({"metadata": {"a": 1}}, "/metadata/a"),
    ({"description": "x" * 501}, "/description"),
    ({"api_version": "v2"}, "/api_version"),
    ({"secret": "whsec_mine"}, "/secret"),
])  # fmt: skip
def test_a_faulty_endpoint_is_refused_with_a_pointer(
    admin: Caller, url: str, change: dict[str, Any], pointer: str
) -> None:
    answer = admin.post(PATH, json={"url": url, "events": ["*"], **change})
    body = assert_problem(answer, "invalid_request")
    assert {fault["pointer"] for fault in body["errors"]} == {pointer}


def test_a_project_has_so_many_endpoints_and_no_more(client: Client, url: str) -> None:
    made = [client.webhook_endpoints.create(url) for _ in range(3)]
    with pytest.raises(featherweight.Conflict) as refused:
        client.webhook_endpoints.create(url)
    assert refused.value.code == "too_many_endpoints"
    client.webhook_endpoints.delete(made[0].id)
    newest = client.webhook_endpoints.create(url)
    first = client.webhook_endpoints.list(limit=2)
    assert [each.id for each in first.data] == [newest.id, made[2].id]
    assert [each.id for each in first] == [newest.id, made[2].id, made[1].id]


def test_an_endpoint_is_changed_field_by_field(client: Client, admin: Caller, url: str) -> None:
    made = client.webhook_endpoints.create(url, description="old", metadata={"a": "b"})
    changed = client.webhook_endpoints.update(made.id, events=["job.failed"])
    assert (changed.events, changed.description, changed.metadata) == (["job.failed"], "old", {"a": "b"})
    assert changed.updated_at > made.updated_at
    changed = client.webhook_endpoints.update(made.id, url=f"{url}/2", metadata={})
    assert (changed.url, changed.metadata) == (f"{url}/2", {})
    assert admin("PATCH", f"{PATH}/{made.id}", json={"description": None}).json["description"] is None
    for body in ({"url": None}, {"disabled": None}, {"disabled": 1}, {"events": []}, {"id": "whe_x"}):
        assert_problem(admin("PATCH", f"{PATH}/{made.id}", json=body), "invalid_request")
    assert admin("PATCH", f"{PATH}/{made.id}", json={}).status_code == 200


def test_a_disabled_endpoint_holds_what_waits_and_goes_on_when_enabled(
    client: Client, parts: Services, served: Receiver, url: str
) -> None:
    made = client.webhook_endpoints.create(url)
    waiting = client.webhook_endpoints.test(made.id)
    off = client.webhook_endpoints.update(made.id, disabled=True)
    assert (off.disabled, off.disabled_reason, off.pending) == (True, "requested", 1)
    deliver(parts)
    assert served.requests == []
    for call in (
        lambda: client.webhook_endpoints.test(made.id),
        lambda: client.webhook_endpoints.replay(made.id, waiting.id),
        lambda: client.webhook_endpoints.replay_failed(made.id, made.created_at),
    ):
        with pytest.raises(featherweight.Conflict) as refused:
            call()
        assert refused.value.code == "endpoint_disabled"
    on = client.webhook_endpoints.update(made.id, disabled=False)
    assert (on.disabled, on.disabled_reason, on.disabled_at) == (False, None, None)
    deliver(parts)
    assert len(served.requests) == 1


def test_a_test_event_goes_to_an_endpoint_that_wants_something_else(
    client: Client, parts: Services, served: Receiver, url: str
) -> None:
    made = client.webhook_endpoints.create(url, events=["batch.failed"])
    client.webhook_endpoints.create(f"{url}/other")
    sent = client.webhook_endpoints.test(made.id)
    assert (sent.state, sent.event_type, sent.attempts) == ("pending", "webhook.test", [])
    deliver(parts)
    (request,) = served.requests
    assert request.path == "/hook"
    event = request.verified(made.secret or "")
    assert event.type == "webhook.test"
    assert event.data["endpoint_id"] == made.id
    with pytest.raises(ValueError, match=r"webhook\.test"):
        event.job  # noqa: B018


def test_the_log_is_filtered_and_paged(client: Client, parts: Services, served: Receiver, url: str) -> None:
    served.behaviours["/hook"] = [500, 500, 200]
    made = client.webhook_endpoints.create(url)
    failed, succeeded = (client.webhook_endpoints.test(made.id) for _ in range(2))
    parts.redis.zadd(f"fw:webhooks:line:{made.id}", {succeeded.id: 9e9})
    deliver(parts)
    assert [each.id for each in client.webhook_endpoints.deliveries(made.id, state="failed")] == [failed.id]
    assert [each.id for each in client.webhook_endpoints.deliveries(made.id, state="succeeded")] == []
    assert [each.id for each in client.webhook_endpoints.deliveries(made.id, state="pending")] == [
        succeeded.id
    ]
    page = client.webhook_endpoints.deliveries(made.id, limit=1)
    assert ([each.id for each in page.data], page.has_more) == ([succeeded.id], True)
    assert [each.id for each in page] == [succeeded.id, failed.id]
    (attempt, _) = next(iter(client.webhook_endpoints.deliveries(made.id, state="failed"))).attempts
    assert (attempt.status_code, attempt.error) == (500, "bad_status")


def test_strange_queries_of_the_log_are_refused(client: Client, admin: Caller, url: str) -> None:
    path = f"{PATH}/{client.webhook_endpoints.create(url).id}/deliveries"
    assert_problem(admin.get(f"{path}?state=lost"), "invalid_request")
    assert_problem(admin.get(f"{path}?limit=0"), "invalid_request")
    assert_problem(admin.get(f"{path}?cursor=nonsense"), "bad_cursor")
    assert_problem(admin.get(f"{path}/dlv_nothing"), "not_found")
    assert_problem(admin.post(f"{path}/dlv_nothing/replay"), "not_found")


def test_a_delivery_of_another_endpoint_is_not_found(client: Client, admin: Caller, url: str) -> None:
    one, other = client.webhook_endpoints.create(url), client.webhook_endpoints.create(url)
    sent = client.webhook_endpoints.test(one.id)
    for method, path in (("GET", ""), ("POST", "/replay")):
        answer = admin(method, f"{PATH}/{other.id}/deliveries/{sent.id}{path}")
        assert_problem(answer, "not_found")


def test_a_replay_is_a_new_delivery_of_the_same_event(
    client: Client, parts: Services, served: Receiver, url: str
) -> None:
    served.behaviours["/hook"] = [500, 500, 204]
    made = client.webhook_endpoints.create(url)
    sent = client.webhook_endpoints.test(made.id)
    deliver(parts)
    again = client.webhook_endpoints.replay(made.id, sent.id)
    assert again.id != sent.id
    assert (again.replay_of, again.event_id, again.state) == (sent.id, sent.event_id, "pending")
    deliver(parts)
    assert client.webhook_endpoints.delivery(made.id, again.id).state == "succeeded"
    assert client.webhook_endpoints.delivery(made.id, sent.id).state == "failed"
    assert len({(request.id, request.body) for request in served.requests}) == 1


def test_a_replay_of_what_still_waits_is_that_itself_due_now(
    client: Client, parts: Services, served: Receiver, url: str
) -> None:
    made = client.webhook_endpoints.create(url)
    sent = client.webhook_endpoints.test(made.id)
    parts.redis.zadd(f"fw:webhooks:line:{made.id}", {sent.id: 9e9})
    assert client.webhook_endpoints.replay(made.id, sent.id).id == sent.id
    deliver(parts)
    assert len(served.requests) == 1


def test_a_replay_sent_twice_under_one_key_is_one(
    client: Client, admin: Caller, parts: Services, url: str
) -> None:
    made = client.webhook_endpoints.create(url)
    sent = client.webhook_endpoints.test(made.id)
    deliver(parts)
    path, key = f"{PATH}/{made.id}/deliveries/{sent.id}/replay", {"Idempotency-Key": "again"}
    first, second = (admin.post(path, headers=key) for _ in range(2))
    assert first.json == second.json
    assert (first.status_code, len(list(client.webhook_endpoints.deliveries(made.id)))) == (202, 2)
    parts.redis.hdel(f"fw:webhooks:event:{sent.event_id}", "body")
    assert_problem(admin.post(path), "event_expired")


def test_all_that_failed_is_sent_again(client: Client, parts: Services, served: Receiver, url: str) -> None:
    served.behaviours["/hook"] = 500
    made = client.webhook_endpoints.create(url)
    sent = [client.webhook_endpoints.test(made.id) for _ in range(3)]
    deliver(parts)
    assert {each.state for each in client.webhook_endpoints.deliveries(made.id)} == {"failed"}
    since = sent[1].created_at
    served.behaviours["/hook"] = 200
    later = datetime.now(UTC) + timedelta(hours=1)
    assert client.webhook_endpoints.replay_failed(made.id, later).count == 0
    assert client.webhook_endpoints.replay_failed(made.id, since, sent[1].created_at).count == 1
    found = client.webhook_endpoints.replay_failed(made.id, since)
    assert (found.count, found.has_more, found.next_since) == (2, False, None)
    deliver(parts)
    again = list(client.webhook_endpoints.deliveries(made.id, state="succeeded"))
    assert sorted(each.event_id for each in again) == sorted(
        [sent[1].event_id, sent[1].event_id, sent[2].event_id]
    )


@pytest.mark.parametrize(
    "body", [{}, {"since": "yesterday"}, {"since": "2026-01-01T00:00:00"}, {"since": None}]
)
def test_since_is_a_time_with_its_zone(client: Client, admin: Caller, url: str, body: dict[str, Any]) -> None:
    made = client.webhook_endpoints.create(url)
    answer = admin.post(f"{PATH}/{made.id}/replay", json=body)
    assert_problem(answer, "invalid_request", pointers={"/since"})


def test_a_removed_endpoint_is_gone_with_its_secret_and_its_log(
    client: Client, parts: Services, url: str, redis_admin: redis.Redis
) -> None:
    made = client.webhook_endpoints.create(url)
    client.webhook_endpoints.test(made.id)
    client.webhook_endpoints.delete(made.id)
    with pytest.raises(featherweight.NotFound):
        client.webhook_endpoints.deliveries(made.id)
    assert parts.webhook_endpoints.secrets.valid(made.id) == []
    deliver(parts)
    parts.webhook_deliveries.purge()
    left = [key for key in redis_admin.keys("*") if made.id.encode() in key or b"delivery" in key]
    assert left == []


def test_keys_without_admin_may_do_none_of_it(caller: Caller, url: str) -> None:
    assert_problem(caller.post(PATH, json={"url": url, "events": ["*"]}), "scope_missing")
    assert_problem(caller.get(PATH), "scope_missing")


def test_redis_away_is_a_503(app: Flask, admin: Caller, url: str) -> None:
    found: Services = app.extensions[NAME]
    broken = dataclasses.replace(found, webhook_endpoints=_Away())  # type: ignore[arg-type]
    app.extensions[NAME] = broken
    assert_problem(admin.get(PATH), "queue_unavailable")


class _Away:
    def __getattr__(self, name: str) -> Any:
        raise redis.ConnectionError("away")
