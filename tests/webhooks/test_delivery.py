"""What is sent, to whom, how often, and what the log says of it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from deploy.local.processes import free_port
from featherweight.signing import verify_webhook
from tasks.outbound import Policy
from tasks.webhooks.sender import retry_after_s
from tests.web_server import NAME, web_server
from tests.webhooks.conftest import Office, seconds_from_now, with_settings
from tests.webhooks.receiver import answer


def policy(*origins: str) -> Policy:
    return Policy.of("443", ",".join(origins))


def test_an_event_is_sent_once_signed_and_logged(office: Office) -> None:
    endpoint = office.endpoint()
    before = datetime.now(UTC)
    office.tell("job_a", name="na\u00efve \u2603")
    office.deliver()
    (request,) = office.served.requests
    event = request.verified(*office.secrets(endpoint))
    assert (event.type, event.data) == (
        "job.succeeded",
        {"id": "job_a", "object": "job", "name": "na\u00efve \u2603"},
    )
    assert event.url == "/v1/jobs/job_a"
    assert before <= event.timestamp <= datetime.now(UTC)
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("featherweight-webhooks")
    assert not {"authorization", "cookie"} & set(request.headers)
    delivery = office.only(endpoint)
    assert (delivery.state, delivery.ended_because) == ("succeeded", "delivered")
    assert delivery.event_id == request.id
    (attempt,) = delivery.attempts
    assert (attempt.number, attempt.status_code, attempt.error) == (1, 204, None)
    assert attempt.latency_ms is not None
    assert office.again(endpoint).last_success_at is not None


def test_all_endpoints_that_want_it_get_the_same_bytes_and_id(office: Office) -> None:
    office.endpoint("/all")
    office.endpoint("/succeeded", events=["job.succeeded", "batch.failed"])
    failed = office.endpoint("/failed", events=["job.failed"])
    off = office.endpoint("/off")
    office.client.hset(f"fw:webhooks:endpoint:{off.id}", "disabled_reason", "requested")
    office.tell()
    office.deliver()
    assert sorted(request.path for request in office.served.requests) == ["/all", "/succeeded"]
    assert len({(request.id, request.body) for request in office.served.requests}) == 1
    assert office.log(failed) == office.log(off) == []


def test_another_projects_endpoints_hear_nothing(office: Office) -> None:
    endpoint = office.endpoint()
    office.notices.tell("other", "job.succeeded", "job_a", {"id": "job_a"})
    office.deliver()
    assert office.log(endpoint) == []


def test_an_event_told_often_is_one(office: Office) -> None:
    endpoint = office.endpoint()
    for _ in range(3):
        office.tell("job_a")
    office.deliver()
    office.tell("job_a")
    office.tell("job_a", "job.failed")
    office.tell("job_b")
    office.deliver()
    assert len(office.served.requests) == len(office.log(endpoint)) == 3
    assert len({request.id for request in office.served.requests}) == 3


def test_what_happened_before_there_was_an_endpoint_is_no_news_to_it(office: Office) -> None:
    happened = datetime.now(UTC)
    endpoint = office.endpoint()
    office.notices.tell("observatory", "job.succeeded", "job_a", {"id": "job_a"}, at=happened)
    assert office.log(endpoint) == []


def test_an_answer_of_500_is_tried_again_with_the_same_id_and_body(office: Office) -> None:
    office.served.behaviours["/hook"] = [500, 404, 200]
    endpoint = office.endpoint()
    office.tell()
    office.deliver()
    delivery = office.only(endpoint)
    assert delivery.state == "succeeded"
    assert [(each.number, each.status_code) for each in delivery.attempts] == [(1, 500), (2, 404), (3, 200)]
    assert {each.error for each in delivery.attempts[:2]} == {"bad_status"}
    assert len({(request.id, request.body) for request in office.served.requests}) == 1
    for request in office.served.requests:
        request.verified(*office.secrets(endpoint))
    assert office.again(endpoint).failing_since is None


def test_attempts_are_used_up(office: Office) -> None:
    office.served.behaviours["/hook"] = 503
    endpoint = office.endpoint()
    office.tell()
    office.deliver()
    delivery = office.only(endpoint)
    assert (delivery.state, delivery.ended_because) == ("failed", "attempts_used_up")
    assert len(delivery.attempts) == len(office.served.requests) == 3
    assert office.again(endpoint).failing_since is not None


def test_a_retry_waits_for_its_time(office: Office) -> None:
    office.served.behaviours["/hook"] = 500
    endpoint = (patient := with_settings(office, webhook_retry_delays_s="100,1000")).endpoint()
    patient.tell()
    patient.deliver()
    delivery = patient.only(endpoint)
    assert delivery.state == "pending"
    assert 40 < seconds_from_now(delivery.next_attempt_at) <= 150
    patient.deliver()
    assert len(patient.served.requests) == 1
    assert patient.again(endpoint).pending == 1


def test_a_receiver_that_is_down_is_tried_again(office: Office) -> None:
    port = free_port()
    down = f"http://127.0.0.1:{port}"
    origins = f"{office.served.origin},{down}"
    office = with_settings(office, webhook_trusted_origins=origins)
    endpoint = office.endpoint(url=f"{down}/hook")
    office.tell()
    office.deliver()
    delivery = office.only(endpoint)
    assert (delivery.state, {each.error for each in delivery.attempts}) == ("failed", {"connection_failed"})
    assert all(each.status_code is None and each.detail for each in delivery.attempts)


def test_a_slow_receiver_is_given_up_in_time(office: Office) -> None:
    def slowly(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(1.5)
        answer(handler, 200)

    office.served.behaviours["/hook"] = slowly
    office = with_settings(office, webhook_retry_delays_s="100")
    endpoint = office.endpoint()
    office.tell()
    started = time.monotonic()
    office.deliver()
    assert time.monotonic() - started < 1.4
    (attempt,) = office.only(endpoint).attempts
    assert attempt.error == "timeout"
    assert attempt.latency_ms is not None
    assert 400 < attempt.latency_ms < 1300


def test_gone_disables_the_endpoint_and_the_others_are_told(office: Office) -> None:
    office.served.behaviours["/gone"] = 410
    gone, other = office.endpoint("/gone", events=["job.succeeded"]), office.endpoint("/other")
    office.tell("job_a")
    office.tell("job_b")
    office.deliver()
    assert len(office.served.at("/gone")) == 1
    record = office.again(gone)
    assert (record.disabled, record.disabled_reason) == (True, "gone")
    assert record.disabled_at is not None
    states = {each.state: each.ended_because for each in office.log(gone)}
    assert states == {"failed": "gone", "pending": None}
    (told,) = [
        event
        for request in office.served.at("/other")
        if (event := request.verified(*office.secrets(other))).type == "webhook_endpoint.disabled"
    ]
    assert (told.data["id"], told.data["disabled_reason"]) == (gone.id, "gone")
    assert "secret" not in told.data
    office.tell("job_c")
    assert len(office.log(gone)) == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_failures_and_are_not_followed(office: Office, status: int) -> None:
    inside = f"{office.served.origin}/inside"
    office.served.behaviours["/hook"] = lambda handler: answer(handler, status, Location=inside)
    endpoint = office.endpoint()
    office.tell()
    office.deliver()
    assert office.served.at("/inside") == []
    delivery = office.only(endpoint)
    assert delivery.state == "failed"
    assert {each.status_code for each in delivery.attempts} == {status}
    assert "redirects are not followed" in (delivery.attempts[0].detail or "")


def test_the_status_counts_whatever_becomes_of_the_body(office: Office) -> None:
    def lies(handler: BaseHTTPRequestHandler) -> None:
        answer(handler, 200, b"short", Content_Length="100000")

    def never_ends(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 65536)

    office.served.behaviours |= {"/lies": lies, "/endless": never_ends}
    endpoints = [office.endpoint("/lies"), office.endpoint("/endless")]
    office.tell()
    started = time.monotonic()
    office.deliver()
    assert time.monotonic() - started < 3
    bodies = [office.only(endpoint).attempts[0].response_body for endpoint in endpoints]
    assert [office.only(endpoint).state for endpoint in endpoints] == ["succeeded", "succeeded"]
    assert bodies == ["short", "x" * 1024]


def test_what_the_receiver_says_is_made_plain(office: Office) -> None:
    said = b"\x1b[31mred\x00 \xff\r\nline\ttab \xe2\x98\x83" + b"." * 5000
    office.served.behaviours["/hook"] = lambda handler: answer(handler, 200, said)
    endpoint = office.endpoint()
    office.tell()
    office.deliver()
    shown = office.only(endpoint).attempts[0].response_body or ""
    assert shown.startswith("\ufffd[31mred\ufffd \ufffd\ufffd\nline\ttab \u2603..")
    assert len(shown) <= 1024


def test_an_answer_that_is_no_http_is_a_failure(office: Office) -> None:
    office.served.behaviours["/hook"] = lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n")
    endpoint = office.endpoint()
    office.tell()
    office.deliver()
    assert {each.error for each in office.only(endpoint).attempts} == {"protocol_error"}


def test_a_certificate_of_nobody_is_a_failure(office: Office, tmp_path: Path) -> None:
    with web_server(tmp_path) as server:
        endpoint = office.endpoint(url=f"{server.origin}/hook")
        office.tell()
        office.deliver(
            policy=policy(server.origin), resolve=lambda host, port: ["127.0.0.1"], ssl_context=None
        )
        assert server.requests == []
    assert {each.error for each in office.only(endpoint).attempts} == {"tls_failed"}


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fd00:ec2::254"])
def test_a_name_that_leads_inside_is_asked_for_nothing(office: Office, address: str) -> None:
    asked: list[str] = []

    def find(host: str, port: int) -> list[str]:
        asked.append(host)
        return [address]

    endpoint = office.endpoint(url="https://hooks.example/hook")
    office.tell()
    office.deliver(resolve=find)
    delivery = office.only(endpoint)
    assert {each.error for each in delivery.attempts} == {"url_not_allowed"}
    assert address not in str(delivery)
    # Looked up anew for each attempt: what it was when the endpoint was made says nothing.
    assert asked == ["hooks.example"] * 3


def test_a_name_is_looked_up_once_for_an_attempt(office: Office, tmp_path: Path) -> None:
    asked: list[str] = []

    def find(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1" if len(asked) == 1 else "10.0.0.1"]

    office = with_settings(office, webhook_retry_delays_s="1000")
    with web_server(tmp_path) as server:
        endpoint = office.endpoint(url=f"{server.origin}/hook")
        office.tell()
        office.deliver(policy=policy(server.origin), resolve=find, ssl_context=server.client_tls)
        assert (asked, server.names) == ([NAME], [NAME])
    (attempt,) = office.only(endpoint).attempts
    assert (attempt.status_code, attempt.response_body) == (404, "nothing here")


def test_retry_after_is_waited_out_by_the_whole_endpoint(office: Office) -> None:
    office.served.behaviours["/hook"] = lambda handler: answer(handler, 429, Retry_After="300")
    endpoint = office.endpoint()
    for name in ("job_a", "job_b", "job_c"):
        office.tell(name)
    office.deliver()
    office.deliver()
    assert len(office.served.requests) == 1
    waits = [seconds_from_now(each.next_attempt_at) for each in office.log(endpoint) if each.attempts]
    assert [290 < wait <= 301 for wait in waits] == [True]


@pytest.mark.parametrize(("value", "low", "high"), [
    ("120", 119, 121), ("99999999999999", 86_399, 86_401), ("soon", 0, 0), ("-5", 0, 0), (None, 0, 0),
    ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0), ("Fri, 31 Dec 9999 23:59:59 GMT", 86_399, 86_401), ("1e5", 0, 0),
])  # fmt: skip
def test_a_retry_after_is_believed_within_bounds(value: str | None, low: float, high: float) -> None:
    assert low <= retry_after_s(value) <= high


def test_an_endpoint_that_only_fails_for_long_is_disabled(office: Office) -> None:
    office.served.behaviours["/hook"] = 500
    office = with_settings(office, webhook_disable_after_s=0)
    endpoint = office.endpoint()
    office.tell("job_a")
    office.deliver()
    # One event alone does not disable it: three attempts, and no more failures than these.
    assert not office.again(endpoint).disabled
    office.tell("job_b")
    office.deliver()
    record = office.again(endpoint)
    assert (record.disabled, record.disabled_reason) == (True, "failing")
    assert len(office.served.requests) == 4


def test_failures_with_successes_in_between_disable_nothing(office: Office) -> None:
    office.served.behaviours["/hook"] = [500, 500, 200] * 5
    office = with_settings(office, webhook_disable_after_s=0)
    endpoint = office.endpoint()
    for number in range(5):
        office.tell(f"job_{number}")
        office.deliver()
    assert not office.again(endpoint).disabled
    assert {each.state for each in office.log(endpoint)} == {"succeeded"}


def test_what_is_signed_while_secrets_are_rotated(office: Office) -> None:
    endpoint = office.endpoint()
    (old,) = office.secrets(endpoint)
    _, new = office.endpoints.rotate("observatory", endpoint.id, 60)
    office.tell("job_a")
    office.deliver()
    request = office.served.requests[-1]
    assert len(request.headers["webhook-signature"].split()) == 2
    for secret in (old, new):
        verify_webhook(request.body, request.headers, secret)
    _, newest = office.endpoints.rotate("observatory", endpoint.id, 0)
    office.tell("job_b")
    office.deliver()
    request = office.served.requests[-1]
    request.verified(newest)
    assert len(request.headers["webhook-signature"].split()) == 1
    assert office.secrets(endpoint) == [newest]


def test_an_old_secret_ends_by_itself(office: Office) -> None:
    endpoint = office.endpoint()
    for _ in range(8):
        office.endpoints.rotate("observatory", endpoint.id, 0.3)
    assert len(office.secrets(endpoint)) == 5
    time.sleep(0.35)
    assert len(office.secrets(endpoint)) == 1
