"""Whatever goes wrong is answered with a problem: ours, Flask's, Redis' and the storage's."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import redis
from flask import Flask

from deploy.local.processes import HOST, free_port
from service import create_app
from service.services import Services
from tasks.settings import Settings
from tests.service.helpers import KERAS, SPEC, Caller, assert_problem


def test_an_unknown_path_is_a_problem(app: Flask) -> None:
    assert_problem(app.test_client().get("/v2/nothing"), "not_found")


def test_a_wrong_method_says_which_are_right(caller: Caller) -> None:
    answer = caller("PATCH", "/v1/jobs")
    assert_problem(answer, "method_not_allowed")
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))


@pytest.mark.parametrize("content_type", ["text/plain", "", "application/xml", "multipart/form-data"])
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/uploads"])
def test_json_must_be_called_json(caller: Caller, path: str, content_type: str) -> None:
    answer = caller.post(path, data=b"{}", content_type=content_type)
    assert_problem(answer, "unsupported_media_type")


def test_json_with_a_charset_is_json(caller: Caller) -> None:
    answer = caller.post("/v1/jobs", data=b"{}", content_type="application/json; charset=utf-8")
    assert_problem(answer, "invalid_request", pointers={"/model_id", "/spec"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"model_id": NaN}',
        b'{"model_id": 1e999}',
        b'{"model_id": "a", "model_id": "b"}',
        b'{"name": "\\ud800"}',
        b'{"name": "\xff"}',
    ],
    ids=["empty", "words", "deep", "deep objects", "nan", "overflow", "twice", "surrogate", "latin-1"],
)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/uploads"])
def test_what_is_not_strict_json_is_refused(caller: Caller, path: str, body: bytes) -> None:
    assert_problem(caller.post(path, data=body, content_type="application/json"), "bad_json")


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b'"text"', b"true"])
def test_json_that_is_no_object_is_invalid(caller: Caller, body: bytes) -> None:
    assert_problem(caller.post("/v1/jobs", data=body, content_type="application/json"), "invalid_request")


def test_too_much_json_is_refused(with_settings: Callable[..., Caller]) -> None:
    caller = with_settings(max_json_bytes=1000)
    assert_problem(
        caller.post("/v1/jobs", data=b" " * 1001, content_type="application/json"), "payload_too_large"
    )
    assert_problem(caller.post("/v1/jobs", data=b" " * 1000, content_type="application/json"), "bad_json")


def test_compressed_json_is_refused(caller: Caller) -> None:
    answer = caller.post(
        "/v1/jobs", data=b"{}", content_type="application/json", headers={"Content-Encoding": "gzip"}
    )
    assert_problem(answer, "unsupported_media_type")


def test_redis_away_is_503_with_retry_after(settings: Settings, caller: Caller) -> None:
    away = f"redis://{HOST}:{free_port()}/0"
    caller = Caller(create_app(settings.model_copy(update={"redis_url": away})), caller.key)
    for path in ("/v1/jobs", "/v1/jobs/job_x", "/v1/models"):
        answer = caller.get(path)
        body = assert_problem(answer, "queue_unavailable")
        assert body["retryable"]
        assert int(answer.headers["Retry-After"]) > 0
    ready = caller.get("/readyz")
    assert (ready.status_code, ready.json["checks"]["redis"]) == (503, "unavailable")
    assert caller.get("/healthz").status_code == 200
    assert caller.get("/metrics").status_code == 200


def test_storage_away_is_503_and_leaves_no_job(
    with_settings: Callable[..., Caller], caller: Caller, parts: Services
) -> None:
    cut_off = with_settings(s3_endpoint_url=f"http://{HOST}:{free_port()}")
    body = {"model_id": caller.model(), "dataset_id": caller.dataset(), "spec": SPEC}
    answer = cut_off.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"})
    assert_problem(answer, "storage_unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert caller.get("/v1/jobs").json["data"] == []
    # The failure is not remembered: with the storage back, the same key makes the job.
    answer = caller.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 202
    assert "Idempotency-Replayed" not in answer.headers

    upload = cut_off.post("/v1/models", data=KERAS, content_type="application/octet-stream")
    assert_problem(upload, "storage_unavailable")
    assert cut_off.get("/readyz").json["checks"] == {
        "redis": "ok",
        "storage": "unavailable",
        "messages": "ok",
        "workers": "none",
        "workers:tensorflow": "none",
        "workers:torch": "none",
    }


def test_a_fault_of_ours_is_500_without_a_trace(
    app: Flask,
    caller: Caller,
    parts: Services,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def break_down(*_: object) -> None:
        raise RuntimeError("/etc/secret/path")

    monkeypatch.setattr(parts.jobs, "get", break_down)
    with caplog.at_level(logging.ERROR, logger="service"):
        answer = caller.get("/v1/jobs/job_x")
    assert_problem(answer, "internal_error")
    assert "secret" not in answer.text
    assert any(record.exc_info for record in caplog.records)


def test_redis_refusing_our_own_script_is_500(
    caller: Caller, parts: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise redis.ResponseError("ERR wrong number of arguments")

    monkeypatch.setattr(parts.jobs, "get", refuse)
    assert_problem(caller.get("/v1/jobs/job_x"), "internal_error")


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/plans", "/v1/uploads", "/v1/models", "/v1/datasets"])
def test_a_form_of_two_thousand_parts_is_refused_unread(caller: Caller, path: str) -> None:
    parts = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%d"\r\n\r\nx\r\n' % n for n in range(2000)
    )
    answer = caller.post(path, data=parts + b"--b--\r\n", content_type="multipart/form-data; boundary=b")
    assert_problem(answer, "unsupported_media_type")


@pytest.mark.parametrize("number", ["9" * 4000, "9" * 5000, "-" + "9" * 4000, "1e400", "0." + "1" * 100_000])
def test_numbers_of_any_length_are_refused(caller: Caller, number: str) -> None:
    body = '{"kind": "model", "filename": "m", "sha256": "%s", "size": %s}' % ("0" * 64, number)  # noqa: UP031
    answer = caller.post("/v1/uploads", data=body.encode(), content_type="application/json")
    assert answer.status_code in (400, 413, 422), answer.text
    assert answer.json["code"] in ("bad_json", "payload_too_large", "invalid_request")


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "limit=1e1", "limit=", "limit=-1"])
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/models", "/v1/datasets"])
def test_a_limit_out_of_bounds_is_refused(caller: Caller, path: str, query: str) -> None:
    assert_problem(caller.get(f"{path}?{query}"), "invalid_request")


@pytest.mark.parametrize("cursor", ["x", "MS4", "a" * 300, "MS4tMQ", "\u2603", "%00"])
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/models", "/v1/datasets"])
def test_a_cursor_not_of_ours_is_refused(caller: Caller, path: str, cursor: str) -> None:
    assert_problem(caller.get(f"{path}?cursor={cursor}"), "bad_cursor")
