"""Retries, idempotency keys and what becomes of answers."""

from __future__ import annotations

import httpx
import pytest

from featherweight import errors
from featherweight._retry import RetryPolicy, retry_after
from featherweight.client import Client
from tests.clients.conftest import SPEC
from tests.clients.fake_service import FakeClock, FakeService, problem_answer


def test_key_user_agent_and_accept_are_sent(service: FakeService, client: Client) -> None:
    client.techniques()
    sent = service.requests[0].headers
    assert sent["Authorization"] == "Bearer fw_key_secret"
    assert sent["User-Agent"].startswith("featherweight-python/")
    assert "fw_key_secret" not in repr(client)


@pytest.mark.parametrize("code", ["rate_limited", "overloaded", "storage_unavailable"])
def test_passing_trouble_is_tried_again(service: FakeService, client: Client, code: str) -> None:
    service.script("GET", "/v1/techniques", problem_answer(code))
    assert client.techniques()[0].technique == "prune"


@pytest.mark.parametrize("status", [502, 504])
def test_gateway_that_answers_html_is_tried_again(service: FakeService, client: Client, status: int) -> None:
    service.script("GET", "/v1/techniques", httpx.Response(status, text="<html>sorry</html>"))
    client.techniques()
    assert len(service.requests) == 2


@pytest.mark.parametrize("code", ["internal_error", "invalid_request", "not_found", "unauthenticated"])
def test_other_errors_are_raised_at_once(service: FakeService, client: Client, code: str) -> None:
    service.script("GET", "/v1/techniques", problem_answer(code))
    with pytest.raises(errors.APIError) as raised:
        client.techniques()
    assert raised.value.code == code
    assert raised.value.request_id == "req_1"
    assert len(service.requests) == 1


def test_retry_after_is_waited_out(service: FakeService, client: Client, clock: FakeClock) -> None:
    service.script("GET", "/v1/techniques", problem_answer("rate_limited", Retry_After="7"))
    client.techniques()
    assert 7.0 <= clock.slept[0] <= 7.5


def test_retry_after_beyond_patience_is_raised_with_its_seconds(service: FakeService, client: Client) -> None:
    service.script("GET", "/v1/techniques", problem_answer("rate_limited", Retry_After="3600"))
    with pytest.raises(errors.RateLimited) as raised:
        client.techniques()
    assert raised.value.retry_after == 3600.0


def test_waits_are_drawn_from_a_range_that_doubles_up_to_the_cap() -> None:
    tops: list[float] = []
    policy = RetryPolicy(
        max_retries=9, base_s=0.5, cap_s=4.0, draw=lambda low, high: tops.append(high) or low
    )
    assert [policy.pause(attempt) for attempt in range(5)] == [0.0] * 5
    assert tops == [0.5, 1.0, 2.0, 4.0, 4.0]
    assert policy.pause(9) is None


def test_retries_end_and_the_last_error_is_raised(service: FakeService) -> None:
    service.script("GET", "/v1/techniques", *[problem_answer("overloaded") for _ in range(9)])
    with pytest.raises(errors.ServiceUnavailable), service.client(max_retries=2) as client:
        client.techniques()
    assert len(service.requests) == 3


def test_attempt_still_at_work_is_waited_for_longer_than_failures_are_retried(service: FakeService) -> None:
    """Its process may have died, and its key is free again after a minute."""
    in_flight = [problem_answer("idempotency_key_in_flight", Retry_After="1") for _ in range(20)]
    service.script("POST", "/v1/jobs", httpx.ReadError("reset"), *in_flight)
    with service.client(max_retries=2) as client:
        client.jobs.create(model_id="mdl_0", spec=SPEC)
    assert len({request.headers["Idempotency-Key"] for request in service.requests}) == 1
    assert len(service.requests) == 22


def test_attempt_at_work_for_longer_than_anybody_waits_is_an_error(
    service: FakeService, clock: FakeClock
) -> None:
    in_flight = [problem_answer("idempotency_key_in_flight", Retry_After="10") for _ in range(50)]
    service.script("POST", "/v1/jobs", *in_flight)
    with pytest.raises(errors.Conflict), service.client(clock) as client:
        client.jobs.create(model_id="mdl_0", spec=SPEC)
    assert 120 <= sum(clock.slept) <= 135


def test_attempt_at_work_is_not_waited_for_where_no_retries_are_wanted(service: FakeService) -> None:
    service.script("POST", "/v1/jobs", problem_answer("idempotency_key_in_flight"))
    with pytest.raises(errors.Conflict), service.client(max_retries=0) as client:
        client.jobs.create(model_id="mdl_0", spec=SPEC)


def test_lost_answer_is_asked_for_again_under_the_same_idempotency_key(
    service: FakeService, client: Client
) -> None:
    service.script("POST", "/v1/jobs", httpx.ReadError("reset"), problem_answer("idempotency_key_in_flight"))
    client.jobs.create(model_id="mdl_0", spec=SPEC)
    keys = [request.headers["Idempotency-Key"] for request in service.asked("POST", "/v1/jobs")]
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_each_call_has_an_idempotency_key_of_its_own(service: FakeService, client: Client) -> None:
    client.jobs.create(model_id="mdl_0", spec=SPEC)
    client.jobs.create(model_id="mdl_0", spec=SPEC)
    client.jobs.create(model_id="mdl_0", spec=SPEC, idempotency_key="mine")
    keys = [request.headers["Idempotency-Key"] for request in service.asked("POST", "/v1/jobs")]
    assert len(set(keys)) == 3
    assert keys[2] == "mine"


def test_request_without_key_is_not_repeated_once_it_may_have_arrived(
    service: FakeService, client: Client
) -> None:
    service.script("POST", "/v1/thing", httpx.ReadError("reset"))
    with pytest.raises(errors.ConnectionFailed):
        client._session.request("POST", "/v1/thing")
    assert len(service.requests) == 1


def test_request_without_key_is_repeated_when_it_was_never_sent(service: FakeService, client: Client) -> None:
    service.script("POST", "/v1/jobs/job_0/cancel", httpx.ConnectError("refused"))
    service.add_job()
    client._session.request("POST", "/v1/jobs/job_0/cancel")
    assert len(service.requests) == 2


def test_no_connection_is_connection_failed_with_the_address(service: FakeService, client: Client) -> None:
    service.script("GET", "/v1/techniques", *[httpx.ConnectError("refused") for _ in range(9)])
    with pytest.raises(errors.ConnectionFailed, match=r"http://api\.test/v1/techniques: refused"):
        client.techniques()


def test_no_answer_in_time_is_a_timeout_error(service: FakeService) -> None:
    service.script("GET", "/v1/techniques", httpx.ReadTimeout("slow"))
    with pytest.raises(TimeoutError) as raised, service.client(max_retries=0) as client:
        client.techniques()
    assert isinstance(raised.value, errors.RequestTimeout)


def test_page_of_something_else_is_an_unexpected_response(service: FakeService, client: Client) -> None:
    service.script("GET", "/v1/techniques", httpx.Response(200, text="<html>Welcome to the hotel wifi"))
    with pytest.raises(errors.UnexpectedResponse, match="Welcome to the hotel wifi"):
        client.techniques()


def test_redirect_of_the_api_is_not_followed(service: FakeService, client: Client) -> None:
    service.script("GET", "/v1/techniques", httpx.Response(301, headers={"Location": "https://other.test/"}))
    with pytest.raises(errors.UnexpectedResponse, match=r"https://other\.test/"):
        client.techniques()


def test_unknown_keys_of_answers_are_ignored(service: FakeService, client: Client) -> None:
    service.add_job(colour="green", progress={"fraction": 0.5, "mood": "good"})
    assert client.jobs.get("job_0").progress.fraction == 0.5


def test_401_without_a_key_says_where_the_key_is_looked_for(service: FakeService) -> None:
    service.script("GET", "/v1/techniques", problem_answer("unauthenticated"))
    with pytest.raises(errors.AuthenticationError, match="FEATHERWEIGHT_API_KEY"):
        service.client(api_key=None).techniques()


def test_url_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, service: FakeService) -> None:
    monkeypatch.setenv("FEATHERWEIGHT_URL", "http://api.test/prefix/")
    monkeypatch.setenv("FEATHERWEIGHT_API_KEY", "fw_other")
    with Client(transport=httpx.MockTransport(service.handle)) as client, pytest.raises(errors.NotFound):
        client.techniques()
    assert service.requests[0].url.path == "/prefix/v1/techniques"
    assert service.requests[0].headers["Authorization"] == "Bearer fw_other"


@pytest.mark.parametrize(
    "url", [None, "", "featherweight.example", "ftp://example.com", "http://", "http://[::"]
)
def test_what_is_no_url_of_a_service_is_refused(url: str | None) -> None:
    with pytest.raises(errors.ConfigurationError):
        Client(url)


def test_ids_are_quoted_in_paths(service: FakeService, client: Client) -> None:
    with pytest.raises(errors.NotFound):
        client.jobs.get("../models?x=1")
    assert service.requests[0].url.raw_path == b"/v1/jobs/..%2Fmodels%3Fx%3D1"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), ("", None), ("5", 5.0), ("0.5", 0.5), ("-3", 0.0), ("soon", None), ("inf", None)],
)
def test_retry_after_in_seconds(value: str | None, seconds: float | None) -> None:
    assert retry_after(value) == seconds


def test_retry_after_as_a_date() -> None:
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert (retry_after("Wed, 21 Oct 2099 07:28:00 GMT") or 0) > 1e9


def test_health_is_told_whatever_it_is(service: FakeService, client: Client) -> None:
    assert client.health().checks == {"redis": "ok"}
    body = {"status": "unavailable", "version": "9", "checks": {"redis": "unavailable"}}
    service.script("GET", "/readyz", httpx.Response(503, json=body), httpx.Response(502, text="<html>"))
    assert client.health().status == "unavailable"
    with pytest.raises(errors.UnexpectedResponse):
        client.health()
