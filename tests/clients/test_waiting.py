"""Waiting for a job and following its events."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from featherweight import errors
from featherweight._retry import Clock
from featherweight._sse import ServerSentEvent, parse
from featherweight.client import Client
from featherweight.events import Event, StateEvent
from featherweight.eventstream import UnknownEvent
from tests.clients.fake_service import Breaking, FakeClock, FakeService, problem_answer


@pytest.fixture
def job(service: FakeService) -> str:
    return str(service.add_job()["id"])


def _changing(service: FakeService, id_: str, **fields: Any) -> Callable[[httpx.Request], httpx.Response]:
    """An answer to a long poll during which the job changed."""

    def answer(request: httpx.Request) -> httpx.Response:
        service.change(id_, **fields)
        return service._routed(request)

    return answer


def _unchanged(request: httpx.Request) -> httpx.Response:
    return httpx.Response(304)


def test_wait_returns_the_job_that_succeeded(service: FakeService, client: Client, job: str) -> None:
    path = f"/v1/jobs/{job}"
    service.script(
        "GET",
        path,
        _changing(service, job, state="queued"),
        _changing(service, job, state="running"),
        _unchanged,
        _changing(service, job, state="succeeded", done=True),
    )
    assert client.jobs.wait(job).state == "succeeded"
    first, second, third, _ = service.asked("GET", path)
    assert "wait" not in first.url.params
    assert second.url.params["wait"] == "30"
    assert second.headers["If-None-Match"] == '"2"'
    assert third.headers["If-None-Match"] == '"3"'


def test_state_from_the_future_is_waited_through(service: FakeService, client: Client, job: str) -> None:
    service.change(job, state="dreaming")
    service.script(
        "GET",
        f"/v1/jobs/{job}",
        lambda request: service._routed(request),
        _changing(service, job, state="ascended", done=True),
    )
    with pytest.raises(errors.JobError, match="ended ascended") as raised:
        client.jobs.wait(job)
    assert type(raised.value) is errors.JobError


def test_deadline_is_kept_and_the_job_goes_on(
    service: FakeService, client: Client, clock: FakeClock, job: str
) -> None:
    with pytest.raises(errors.WaitTimeout, match=f"job {job} is still queued after 100 s") as raised:
        client.jobs.wait(job, timeout=100.0)
    assert raised.value.job.id == job
    assert isinstance(raised.value, TimeoutError)
    assert sum(clock.slept) == pytest.approx(100.0)
    assert service.jobs[job]["state"] == "queued"


def test_deadline_of_zero_is_one_look(service: FakeService, client: Client, job: str) -> None:
    with pytest.raises(errors.WaitTimeout):
        client.jobs.wait(job, timeout=0)
    assert len(service.requests) == 1


def test_job_can_be_cancelled_at_the_deadline(service: FakeService, client: Client, job: str) -> None:
    with pytest.raises(errors.JobCancelled):
        client.jobs.wait(job, timeout=1.0, on_timeout="cancel")
    assert service.jobs[job]["state"] == "cancelled"


def test_retry_after_sets_the_pace(service: FakeService, client: Client, clock: FakeClock, job: str) -> None:
    def slow_down(request: httpx.Request) -> httpx.Response:
        answer = service._routed(request)
        answer.headers["Retry-After"] = "9"
        return answer

    service.script("GET", f"/v1/jobs/{job}", slow_down, _changing(service, job, state="succeeded", done=True))
    client.jobs.wait(job)
    assert max(clock.slept) == pytest.approx(9.0)


def test_service_that_answers_at_once_is_not_asked_without_pause(
    service: FakeService, client: Client, clock: FakeClock, job: str
) -> None:
    with pytest.raises(errors.WaitTimeout):
        client.jobs.wait(job, timeout=10.0)
    assert len(service.requests) <= 42


def test_restart_of_the_service_is_waited_out(service: FakeService, client: Client, job: str) -> None:
    service.script(
        "GET",
        f"/v1/jobs/{job}",
        lambda request: service._routed(request),
        *[httpx.ConnectError("refused") for _ in range(12)],
        problem_answer("overloaded"),
        _changing(service, job, state="succeeded", done=True),
    )
    assert client.jobs.wait(job).done


def test_service_that_stays_away_ends_the_wait(service: FakeService, client: Client, job: str) -> None:
    service.script(
        "GET",
        f"/v1/jobs/{job}",
        lambda request: service._routed(request),
        *[httpx.ConnectError("refused") for _ in range(1000)],
    )
    with pytest.raises(errors.ConnectionFailed):
        client.jobs.wait(job)


def test_unknown_job_is_not_waited_for(client: Client) -> None:
    with pytest.raises(errors.NotFound):
        client.jobs.wait("job_nowhere", timeout=60)


def test_failure_carries_the_problem(service: FakeService, client: Client, job: str) -> None:
    why = {
        "type": "/problems/bad_data",
        "title": "t",
        "status": 422,
        "code": "bad_data",
        "detail": "NaN in x",
    }
    service.change(job, state="failed", done=True, error=why)
    handle = client.job(job)
    with pytest.raises(errors.JobFailed, match="NaN in x") as raised:
        handle.wait()
    assert raised.value.problem is not None
    assert raised.value.problem.code == "bad_data"
    assert handle.state == "failed"


# -- events

EVENTS = [
    {"type": "state", "state": "running", "attempt": 1},
    {"type": "progress", "stage": "step 1", "fraction": 0.5, "metrics": {"loss": 0.25}},
    {"type": "poem", "verse": "roses"},
    {"type": "state", "state": "succeeded", "attempt": 1},
]


def test_events_come_in_order_and_end_with_the_job(service: FakeService, client: Client, job: str) -> None:
    service.events[job] = EVENTS
    with client.jobs.events(job) as stream:
        events = list(stream)
    assert [event.type for event in events] == ["state", "progress", "poem", "state"]
    assert isinstance(events[2], UnknownEvent)
    assert events[2].data["verse"] == "roses"
    assert stream.last_event_id == "4"
    assert len(service.requests) == 1


def test_events_after_one_already_seen(service: FakeService, client: Client, job: str) -> None:
    service.events[job] = EVENTS
    assert [event.type for event in client.jobs.events(job, after="3")] == ["state"]


def test_broken_stream_goes_on_after_the_last_event(service: FakeService, client: Client, job: str) -> None:
    service.events[job] = EVENTS
    broken = Breaking(b'id: 1\ndata: {"type": "state", "state": "running"}\n\nid: 2\ndata: {"ty')
    service.script("GET", f"/v1/jobs/{job}/events", httpx.Response(200, stream=broken))
    events = list(client.jobs.events(job))
    assert len(events) == 4
    assert service.requests[1].headers["Last-Event-ID"] == "1"


def _the_end_comes(service: FakeService, id_: str) -> Callable[[httpx.Request], httpx.Response]:
    """The job ends just before it is looked at."""

    def answer(request: httpx.Request) -> httpx.Response:
        service.events[id_] = EVENTS
        service.change(id_, state="succeeded", done=True)
        return service._routed(request)

    return answer


def test_stream_that_was_closed_early_is_opened_again_until_the_job_is_done(
    service: FakeService, client: Client, job: str
) -> None:
    service.events[job] = EVENTS[:1]
    service.script(
        "GET", f"/v1/jobs/{job}", lambda request: service._routed(request), _the_end_comes(service, job)
    )
    assert [event.type for event in client.jobs.events(job)] == ["state", "progress", "poem", "state"]
    assert len(service.asked("GET", f"/v1/jobs/{job}/events")) == 3


def test_what_a_job_said_while_redis_was_away_is_told_when_it_has_ended_meanwhile(
    service: FakeService, client: Client, job: str
) -> None:
    service.events[job] = EVENTS[:1]
    service.script(
        "GET",
        f"/v1/jobs/{job}",
        *[problem_answer("queue_unavailable") for _ in range(3)],
        _the_end_comes(service, job),
    )
    assert [event.type for event in client.jobs.events(job)] == ["state", "progress", "poem", "state"]


@pytest.mark.parametrize("says_that_it_is_all", [True, False])
def test_end_that_is_not_among_the_events_is_told_as_the_record_has_it(
    service: FakeService, client: Client, job: str, says_that_it_is_all: bool
) -> None:
    service.events[job] = EVENTS[:2]
    service.change(job, state="succeeded", done=True, attempt=3)
    if not says_that_it_is_all:
        path = f"/v1/jobs/{job}/events"
        nothing = [httpx.Response(200, text=": hello\n\n") for _ in range(2)]
        service.script("GET", path, lambda request: service._routed(request), *nothing)
    assert list(client.jobs.events(job))[-1] == StateEvent(state="succeeded", attempt=3)


def test_state_that_this_library_does_not_know_ends_a_stream_once(
    service: FakeService, client: Client, job: str
) -> None:
    service.events[job] = [*EVENTS[:1], {"type": "state", "state": "ascended", "attempt": 1}]
    service.change(job, state="ascended", done=True)
    assert [event.state for event in client.jobs.events(job) if isinstance(event, StateEvent)] == [
        "running",
        "ascended",
    ]


def test_nothing_comes_after_the_last_event(service: FakeService, client: Client, job: str) -> None:
    service.events[job] = EVENTS
    service.change(job, state="succeeded", done=True)
    assert list(client.jobs.events(job, after="4")) == []


def test_stream_that_only_breaks_is_given_up_after_five_minutes(
    service: FakeService, client: Client, clock: FakeClock, job: str
) -> None:
    service.script(
        "GET", f"/v1/jobs/{job}/events", *[httpx.Response(200, stream=Breaking(b":\n")) for _ in range(300)]
    )
    began = clock.now()
    with pytest.raises(errors.ConnectionFailed):
        list(client.jobs.events(job))
    assert 300 < clock.now() - began < 400


def test_stream_outlives_a_service_that_is_away_for_a_while(
    service: FakeService, client: Client, clock: FakeClock, job: str
) -> None:
    service.script(
        "GET",
        f"/v1/jobs/{job}/events",
        httpx.Response(200, stream=Breaking(b":\n")),
        *[httpx.Response(503) for _ in range(12)],
    )
    service.events[job] = EVENTS
    service.change(job, state="succeeded", done=True)
    assert [event.type for event in client.jobs.events(job)] == ["state", "progress", "poem", "state"]


def test_stream_of_a_service_that_was_never_there_is_an_error_soon(
    service: FakeService, client: Client, clock: FakeClock, job: str
) -> None:
    service.script("GET", f"/v1/jobs/{job}/events", *[httpx.Response(503) for _ in range(50)])
    began = clock.now()
    with pytest.raises(errors.ServiceUnavailable):
        list(client.jobs.events(job))
    assert clock.now() - began < 10


def test_wait_hands_out_the_events_in_the_callers_thread(service: FakeService, job: str) -> None:
    service.events[job] = EVENTS
    service.change(job, state="succeeded", done=True)
    seen: list[Event | UnknownEvent] = []
    threads = set()

    def on_event(event: Event | UnknownEvent) -> None:
        threads.add(threading.current_thread())
        seen.append(event)

    with service.client(Clock()) as client:
        assert client.jobs.wait(job, on_event=on_event).done
    assert [event.type for event in seen] == ["state", "progress", "poem", "state"]
    assert threads == {threading.main_thread()}


def test_quiet_stream_does_not_hold_the_deadline(service: FakeService, job: str) -> None:
    release = threading.Event()

    class Quiet(httpx.SyncByteStream):
        def __iter__(self) -> Any:
            yield b": hello\n"
            release.wait(10)

    service.script("GET", f"/v1/jobs/{job}/events", httpx.Response(200, stream=Quiet()))
    began = time.monotonic()
    with service.client(Clock()) as client:
        with pytest.raises(errors.WaitTimeout):
            client.jobs.wait(job, timeout=0.3, on_event=lambda event: None)
        assert time.monotonic() - began < 3
        release.set()


def test_wait_goes_on_without_events_when_the_stream_fails(service: FakeService, job: str) -> None:
    service.script("GET", f"/v1/jobs/{job}/events", problem_answer("internal_error"))
    service.change(job, state="succeeded", done=True)
    with service.client(Clock()) as client:
        assert client.jobs.wait(job, on_event=lambda event: None).done


def test_error_of_the_callback_is_the_callers(service: FakeService, job: str) -> None:
    service.events[job] = EVENTS

    def fail(event: object) -> None:
        raise KeyError(event)

    with service.client(Clock()) as client, pytest.raises(KeyError):
        client.jobs.wait(job, on_event=fail)


def test_known_final_state_ends_the_stream() -> None:
    assert StateEvent(state="failed").state == "failed"


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_stream_is_parsed_however_it_is_cut(size: int) -> None:
    text = (
        ": hello\r\nid: 1\r\nevent: state\r\ndata: first\r\ndata: second\r\n\r\n"
        'data:{"a": "\u2028\u0085é"}\n\nid: 3\rdata\r\revent: lost\n\nid\ndata: last\n\ndata: unfinished'
    ).encode()
    chunks = [text[start : start + size] for start in range(0, len(text), size)]
    assert [event for event in parse(chunks) if event] == [
        ServerSentEvent("1", "state", "first\nsecond"),
        ServerSentEvent("1", "message", '{"a": "\u2028\u0085é"}'),
        ServerSentEvent("3", "message", ""),
        ServerSentEvent("", "message", "last"),
    ]


def test_endless_line_is_refused() -> None:
    with pytest.raises(errors.UnexpectedResponse):
        list(parse([b"data: "] + [b"x" * 1_000_000] * 5))
