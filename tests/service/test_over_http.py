"""What only a real server and a real socket show: gunicorn as it is deployed."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest

from featherweight.problem import MEDIA_TYPE
from service.services import Services
from tasks.records import Outcome
from tests.service.helpers import KERAS, NPZ, PROJECT, SPEC, Served, assert_problem

MIB = 1024 * 1024


@pytest.fixture
def connection(served: Served) -> Iterator[socket.socket]:
    with closing(socket.create_connection(served.address, timeout=20)) as sock:
        yield sock


def head(served: Served, path: str, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: test", f"Authorization: Bearer {served.key}", *headers, "", ""]
    return "\r\n".join(lines).encode()


def answer_of(sock: socket.socket) -> tuple[int, dict[str, str], dict[str, object]]:
    """Status, headers and JSON body of the next answer."""
    file = sock.makefile("rb")
    status = int(file.readline().split()[1])
    if status == 100:
        assert file.readline() == b"\r\n"
        status = int(file.readline().split()[1])
    headers = {}
    while (line := file.readline().decode().rstrip()) != "":
        name, _, value = line.partition(": ")
        headers[name.lower()] = value
    return status, headers, json.loads(file.read(int(headers["content-length"])))


def chunks(total: int) -> Iterator[bytes]:
    yield NPZ
    for _ in range(total // MIB):
        yield b"\0" * MIB


def job_in(served: Served) -> str:
    model = served.http.post("/v1/models", content=KERAS).json()["id"]
    dataset = served.http.post("/v1/datasets", content=NPZ).json()["id"]
    answer = served.http.post("/v1/jobs", json={"model_id": model, "dataset_id": dataset, "spec": SPEC})
    assert answer.status_code == 202
    return str(answer.json()["id"])


def test_a_chunked_body_is_stored(served: Served) -> None:
    answer = served.http.post("/v1/datasets", content=chunks(20 * MIB))
    assert answer.status_code == 201
    assert answer.json()["bytes"] == len(NPZ) + 20 * MIB


@pytest.mark.parametrize("expect", [(), ("Expect: 100-continue",)])
def test_a_body_announced_as_5_gb_is_refused_at_once(
    served: Served, connection: socket.socket, expect: tuple[str, ...]
) -> None:
    began = time.monotonic()
    connection.sendall(head(served, "/v1/datasets", "Content-Length: 5000000000", *expect) + NPZ)
    status, headers, body = answer_of(connection)
    assert time.monotonic() - began < 5
    assert (status, headers["content-type"], body["code"]) == (413, MEDIA_TYPE, "payload_too_large")


def test_a_client_that_sends_on_still_gets_the_refusal(served: Served) -> None:
    """One that reads only after it has sent everything, as most do."""
    headers = {"Content-Length": str(len(NPZ) + 200 * MIB)}
    began = time.monotonic()
    answer = served.http.post("/v1/datasets", content=chunks(200 * MIB), headers=headers)
    assert_problem(answer, "payload_too_large")
    assert time.monotonic() - began < 20


def test_a_chunked_body_that_does_not_end_is_refused(served: Served, parts: Services) -> None:
    assert_problem(served.http.post("/v1/datasets", content=chunks(200 * MIB)), "payload_too_large")
    assert parts.datasets.list(PROJECT) == ([], None)


@pytest.mark.parametrize("framing", ["Content-Length: 40000000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("abruptly", [True, False])
def test_an_upload_that_breaks_off_leaves_nothing(
    served: Served, parts: Services, connection: socket.socket, framing: str, *, abruptly: bool
) -> None:
    before = parts.storage.list_keys(f"projects/{PROJECT}/")
    sent = NPZ + b"\0" * (20 * MIB)
    if "chunked" in framing:
        sent = b"%x\r\n" % (len(sent) + 100) + sent
    connection.sendall(head(served, "/v1/datasets", framing) + sent)
    connection.shutdown(socket.SHUT_WR)
    if abruptly:
        connection.close()
    else:
        status, _, body = answer_of(connection)
        assert (status, body["code"]) == (422, "size_mismatch")
    deadline = time.monotonic() + 10
    while parts.storage.list_keys(f"projects/{PROJECT}/") != before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert parts.storage.list_keys(f"projects/{PROJECT}/") == before
    assert parts.datasets.list(PROJECT) == ([], None)
    assert served.http.get("/healthz").status_code == 200


@pytest.mark.parametrize("broken", [b"zz\r\nhello\r\n", b"5\r\nhello!!\r\n", b"-5\r\n"])
def test_a_broken_chunk_is_the_callers_fault(
    served: Served, connection: socket.socket, broken: bytes
) -> None:
    connection.sendall(head(served, "/v1/datasets", "Transfer-Encoding: chunked") + broken)
    connection.shutdown(socket.SHUT_WR)
    status, _, _ = answer_of(connection)
    assert 400 <= status < 500


def test_a_refused_body_does_not_spoil_the_next_request(served: Served, connection: socket.socket) -> None:
    body = b"{" * 30_000
    request = head(served, "/v1/models", f"Content-Length: {len(body)}", "Content-Type: application/json")
    for _ in range(3):
        connection.sendall(request + body)
        status, _, answer = answer_of(connection)
        assert (status, answer["code"]) == (415, "unsupported_media_type")


def test_an_event_stream_is_live_and_resumable(served: Served, parts: Services) -> None:
    job_id = job_in(served)
    claim = parts.jobs.claim(job_id, "w")
    assert claim is not None
    threading.Timer(0.5, lambda: parts.jobs.request_cancel(PROJECT, job_id)).start()
    seen, began = [], time.monotonic()
    with served.http.stream("GET", f"/v1/jobs/{job_id}/events") as response:
        assert response.headers["content-type"] == "text/event-stream"
        for line in response.iter_lines():
            if line.startswith("id: "):
                seen.append(line[4:])
            if "cancellation" in line:
                break
    assert time.monotonic() - began < 5
    assert len(seen) == 3
    again = {"Last-Event-ID": seen[1]}
    with served.http.stream("GET", f"/v1/jobs/{job_id}/events", headers=again) as response:
        assert next(line for line in response.iter_lines() if line.startswith("id: ")) == f"id: {seen[2]}"
    assert parts.jobs.commit(claim, Outcome.cancelled())


def test_a_long_poll_holds_and_others_are_served_meanwhile(served: Served, parts: Services) -> None:
    job_id = job_in(served)
    etag = served.http.get(f"/v1/jobs/{job_id}").headers["ETag"]
    threading.Timer(1, lambda: parts.jobs.claim(job_id, "w")).start()
    answers: list[int] = []

    def poll() -> None:
        answer = served.http.get(f"/v1/jobs/{job_id}?wait=20", headers={"If-None-Match": etag})
        answers.append(answer.status_code)

    pollers = [threading.Thread(target=poll) for _ in range(20)]
    for poller in pollers:
        poller.start()
    began = time.monotonic()
    assert served.http.get("/healthz").status_code == 200
    assert time.monotonic() - began < 1
    for poller in pollers:
        poller.join()
    assert answers == [200] * 20
    assert time.monotonic() - began < 10


def test_metrics_are_those_of_all_processes(served: Served) -> None:
    def counted() -> float:
        prefix = 'featherweight_http_requests_total{method="GET",route="/v1/techniques",status="200"} '
        lines = served.http.get("/metrics").text.splitlines()
        return sum(float(line.removeprefix(prefix)) for line in lines if line.startswith(prefix))

    before = counted()
    for _ in range(20):  # each over a connection of its own, so that both processes get some
        httpx.get(f"{served.url}/v1/techniques", headers=served.http.headers).raise_for_status()
    assert counted() == before + 20
