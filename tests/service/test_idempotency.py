"""Idempotency-Key: sent twice, made once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from service.services import Services
from tests.service.helpers import KERAS, PROJECT, SPEC, Caller, assert_problem, sha256

KEY = {"Idempotency-Key": "3f2c"}
OCTETS = "application/octet-stream"


@pytest.fixture
def ask_for_job(caller: Caller) -> Callable[..., Any]:
    body = {"model_id": caller.model(), "dataset_id": caller.dataset(), "spec": SPEC}
    return lambda **changes: caller.post("/v1/jobs", json=body | changes, headers=KEY)


def test_a_job_asked_for_twice_is_made_once(ask_for_job: Callable[..., Any], caller: Caller) -> None:
    first, second = ask_for_job(), ask_for_job()
    assert second.status_code == first.status_code == 202
    assert second.json == first.json
    assert second.headers["Location"] == first.headers["Location"]
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len(caller.get("/v1/jobs").json["data"]) == 1


def test_the_spelling_of_the_json_does_not_matter(ask_for_job: Callable[..., Any], caller: Caller) -> None:
    import json

    job = ask_for_job().json
    body = {"spec": SPEC, "dataset_id": job["dataset_id"], "model_id": job["model_id"]}
    answer = caller.post(
        "/v1/jobs", data=json.dumps(body, indent=3), content_type="application/json", headers=KEY
    )
    assert answer.json["id"] == job["id"]


def test_another_body_under_the_same_key_is_refused(ask_for_job: Callable[..., Any]) -> None:
    ask_for_job()
    assert_problem(ask_for_job(name="another"), "idempotency_key_reused")


def test_a_key_is_for_one_kind_of_request(ask_for_job: Callable[..., Any], caller: Caller) -> None:
    ask_for_job()
    answer = caller.post("/v1/models", data=KERAS, content_type=OCTETS, headers=KEY)
    assert_problem(answer, "idempotency_key_reused")


def test_a_key_belongs_to_a_project(ask_for_job: Callable[..., Any], stranger: Caller) -> None:
    ask_for_job()
    answer = stranger.post("/v1/models", data=KERAS, content_type=OCTETS, headers=KEY)
    assert answer.status_code == 201


def test_a_request_in_flight_is_not_begun_again(
    ask_for_job: Callable[..., Any], parts: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    create = parts.jobs.create

    def slowly(*args: Any, **options: Any) -> Any:
        begun.set()
        assert go_on.wait(20)
        return create(*args, **options)

    monkeypatch.setattr(parts.jobs, "create", slowly)
    answers: list[Any] = []
    first = threading.Thread(target=lambda: answers.append(ask_for_job()))
    first.start()
    assert begun.wait(20)
    refused = ask_for_job()
    body = assert_problem(refused, "idempotency_key_in_flight")
    assert (body["retryable"], refused.headers["Retry-After"]) == (True, "1")
    go_on.set()
    first.join()
    assert ask_for_job().json == answers[0].json


def test_a_refused_request_leaves_the_key_free(ask_for_job: Callable[..., Any]) -> None:
    assert_problem(ask_for_job(model_id="mdl_unknown"), "invalid_request")
    assert ask_for_job().status_code == 202


def test_what_broke_off_is_taken_up_under_the_same_id(
    ask_for_job: Callable[..., Any], caller: Caller, parts: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the process dies after the record was written."""

    def die(*_: Any, **__: Any) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(parts.queue, "enqueue", die)
        assert_problem(ask_for_job(), "internal_error")
    (half_made,) = caller.get("/v1/jobs").json["data"]
    assert ask_for_job().json["id"] == half_made["id"]
    assert len(caller.get("/v1/jobs").json["data"]) == 1


def test_a_streamed_file_sent_twice_is_stored_once(caller: Caller) -> None:
    def send(data: bytes, **query: str) -> Any:
        return caller.post(
            "/v1/models", data=data, content_type=OCTETS, headers=KEY, query_string=query or None
        )

    first, second = send(KERAS), send(KERAS)
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json == first.json
    assert second.headers["Idempotency-Replayed"] == "true"
    assert_problem(send(KERAS[:-1] + b"x"), "idempotency_key_reused")
    assert_problem(send(KERAS + b"x"), "idempotency_key_reused")
    assert_problem(send(KERAS, filename="other"), "idempotency_key_reused")
    assert len(caller.get("/v1/models").json["data"]) == 1


def test_a_file_that_broke_off_can_be_sent_again(caller: Caller) -> None:
    def send(data: bytes) -> Any:
        options = {"headers": KEY, "query_string": {"sha256": sha256(KERAS)}, "content_type": OCTETS}
        return caller.post("/v1/models", data=data, **options)

    assert_problem(send(KERAS[:-1] + b"x"), "sha256_mismatch")
    assert send(KERAS).status_code == 201


def test_an_upload_begun_twice_is_begun_once(caller: Caller, parts: Services) -> None:
    body = {"kind": "model", "filename": "m.keras", "size": 10, "sha256": "0" * 64}
    first, second = (caller.post("/v1/uploads", json=body, headers=KEY) for _ in range(2))
    assert first.json == second.json
    assert len(parts.uploads.list(PROJECT)[0]) == 1


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "\u00e4"])
def test_a_key_that_is_none_is_refused(caller: Caller, key: str) -> None:
    answer = caller.post("/v1/models", data=KERAS, headers={"Idempotency-Key": key}, content_type=OCTETS)
    assert_problem(answer, "bad_request")
