"""What a project may use: refused beyond it, with a code, and given back when it is free again."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from flask import Flask

from service.services import Services
from tests.service.helpers import KERAS, PROJECT, SPEC, Caller, assert_problem, sha256


@pytest.fixture
def limit(parts: Services) -> Any:
    return lambda **limits: parts.limits.change(PROJECT, limits)


def store(caller: Caller, **options: Any) -> Any:
    return caller.post("/v1/models?filename=m.keras", content_type="application/octet-stream", **options)


def begin(caller: Caller, size: int = len(KERAS)) -> Any:
    body = {"kind": "model", "filename": "m.keras", "size": size, "sha256": sha256(KERAS)}
    return caller.post("/v1/uploads", json=body)


def test_usage_tells_what_there_is_and_what_may_be(caller: Caller, limit: Any) -> None:
    limit(running_jobs=3, requests_per_second=50.5)
    caller.job()
    begin(caller)
    usage = caller.get("/v1/usage").json
    assert usage["project"] == PROJECT
    assert (usage["queued_jobs"], usage["running_jobs"], usage["cpu_seconds"]) == (1, 0, 0)
    assert usage["stored"]["models"] == usage["stored"]["uploads"] == len(KERAS)
    assert usage["stored_bytes"] == sum(usage["stored"].values()) > 0
    assert usage["limits"]["running_jobs"] == 3
    assert usage["limits"]["requests_per_second"] == 50.5


def test_files_beyond_the_quota_are_refused_and_leave_nothing(
    caller: Caller, stranger: Caller, parts: Services, limit: Any
) -> None:
    limit(stored_bytes=2 * len(KERAS))
    first, second = caller.model(), caller.model()
    before = parts.storage.list_keys(f"projects/{PROJECT}/")
    assert_problem(store(caller, data=KERAS), "storage_quota_exceeded")
    assert_problem(begin(caller), "storage_quota_exceeded")
    assert parts.storage.list_keys(f"projects/{PROJECT}/") == before
    assert caller.get("/v1/usage").json["stored_bytes"] == 2 * len(KERAS)
    stranger.model()
    # Room that is given back can be used again.
    assert caller("DELETE", f"/v1/models/{first}").status_code == 204
    assert begin(caller).status_code == 201
    assert_problem(store(caller, data=KERAS), "storage_quota_exceeded")
    assert second


def test_a_file_of_unknown_length_is_counted_when_it_is_there(
    caller: Caller, parts: Services, limit: Any
) -> None:
    limit(stored_bytes=len(KERAS) - 1)
    before = parts.storage.list_keys(f"projects/{PROJECT}/")
    chunked = {"wsgi.input_terminated": True}
    answer = store(
        caller,
        input_stream=io.BytesIO(KERAS),
        environ_overrides=chunked,
        headers={"Transfer-Encoding": "chunked"},
    )
    assert_problem(answer, "storage_quota_exceeded")
    assert parts.storage.list_keys(f"projects/{PROJECT}/") == before
    assert parts.models.list(PROJECT) == ([], None)
    assert caller.get("/v1/usage").json["stored_bytes"] == 0


@pytest.mark.parametrize("end", ["abort", "complete", "expire"])
def test_an_upload_counts_until_it_is_something_else(
    caller: Caller, parts: Services, limit: Any, end: str
) -> None:
    import httpx

    limit(stored_bytes=len(KERAS))
    upload = begin(caller).json
    assert caller.get("/v1/usage").json["stored"]["uploads"] == len(KERAS)
    if end == "abort":
        caller("DELETE", f"/v1/uploads/{upload['id']}")
    elif end == "complete":
        httpx.put(upload["parts"][0]["url"], content=KERAS).raise_for_status()
        assert caller.post(f"/v1/uploads/{upload['id']}/complete").status_code == 200
    else:
        record = parts.uploads.get(PROJECT, upload["id"])
        parts.uploads.put(PROJECT, record.model_copy(update={"expires_at": record.created_at}))
        parts.redis.zadd("fw:uploads-expiring", {f"{PROJECT}/{upload['id']}": 0})
        assert begin(caller).status_code == 201
    stored = caller.get("/v1/usage").json["stored"]
    assert stored["uploads"] == (len(KERAS) if end == "expire" else 0)
    assert stored["models"] == (len(KERAS) if end == "complete" else 0)


def test_jobs_beyond_the_queue_are_refused_until_one_has_left_it(
    caller: Caller, stranger: Caller, limit: Any
) -> None:
    limit(queued_jobs=1)
    job_id = caller.job()
    body = {"model_id": caller.model(), "dataset_id": caller.dataset(), "spec": SPEC}
    again = {"Idempotency-Key": "k"}
    answer = caller.post("/v1/jobs", json=body, headers=again)
    assert assert_problem(answer, "too_many_queued_jobs")["retryable"]
    assert int(answer.headers["Retry-After"]) > 0
    stranger.job()
    caller.post(f"/v1/jobs/{job_id}/cancel")
    assert caller.post("/v1/jobs", json=body, headers=again).status_code == 202


def test_jobs_are_refused_when_the_cpu_seconds_of_a_day_are_used_up(
    caller: Caller, stranger: Caller, parts: Services, limit: Any
) -> None:
    limit(cpu_seconds_per_day=10)
    parts.accounts.charge(PROJECT, 10.5)
    body = {"model_id": caller.model(), "dataset_id": caller.dataset(), "spec": SPEC}
    answer = caller.post("/v1/jobs", json=body)
    assert_problem(answer, "cpu_quota_exceeded")
    assert 85_000 < int(answer.headers["Retry-After"]) <= 86_400
    assert caller.get("/v1/usage").json["cpu_seconds"] == 10.5
    stranger.job()


def test_a_project_whose_room_is_used_up_submits_no_job(caller: Caller, parts: Services, limit: Any) -> None:
    body = {"model_id": caller.model(), "dataset_id": caller.dataset(), "spec": SPEC}
    limit(stored_bytes=caller.get("/v1/usage").json["stored_bytes"])
    assert_problem(caller.post("/v1/jobs", json=body), "storage_quota_exceeded")
    limit(stored_bytes=None)
    assert caller.post("/v1/jobs", json=body).status_code == 202


def test_requests_beyond_the_rate_are_told_when_to_come_again(
    caller: Caller, stranger: Caller, limit: Any
) -> None:
    limit(requests_per_second=0.5)
    answers = [caller.get("/v1/techniques") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 429, 429]
    assert answers[0].headers["RateLimit-Policy"] == '"project";q=1;w=2'
    assert answers[0].headers["RateLimit"] == '"project";r=0;t=2'
    assert assert_problem(answers[-1], "rate_limited")["retryable"]
    assert answers[-1].headers["Retry-After"] == "2"
    # A wrong scope is not a way round, and health needs no key.
    assert_problem(caller.get("/v1/audit"), "rate_limited")
    assert caller.get("/healthz").status_code == 200
    assert stranger.get("/v1/techniques").status_code == 200
    assert "RateLimit" not in stranger.get("/v1/techniques").headers
    time.sleep(2.1)
    assert caller.get("/v1/techniques").status_code == 200


def test_the_commands_set_limits_and_print_them(app: Flask, caller: Caller, parts: Services) -> None:
    run = app.test_cli_runner().invoke
    assert "running_jobs  no limit" in run(args=["projects", "limits", PROJECT]).output
    told = run(
        args=["projects", "limits", PROJECT, "--running-jobs", "2", "--requests-per-second", "0.5"]
    ).output
    assert "running_jobs  2" in told
    assert "requests_per_second  0.5" in told
    assert parts.limits.get(PROJECT).running_jobs == 2
    assert "no limit" in run(args=["projects", "limits", PROJECT, "--running-jobs", "default"]).output
    assert parts.limits.get(PROJECT).running_jobs == 0
    assert '"queued_jobs": 0' in run(args=["projects", "usage", PROJECT]).output
    for wrong in ("-1", "1.5", "nan", "inf", "many"):
        assert run(args=["projects", "limits", PROJECT, "--queued-jobs", wrong]).exit_code != 0, wrong
    assert run(args=["projects", "limits", "a/b"]).exit_code == 1
