"""What the API shows of things that are kept for a time, and of those whose time is over."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from flask import Flask

from featherweight.job import Artifact, Job
from featherweight.resources import Model
from service.services import Services
from tasks import keys
from tasks.records import Outcome
from tasks.settle import Settler
from tasks.storage import Storage, StorageUnavailable
from tests.service.helpers import PROJECT, Caller, assert_problem


@pytest.fixture
def done(caller: Caller, parts: Services) -> str:
    """The id of a job that made report.json, and is settled."""
    job_id = caller.job()
    claim = parts.jobs.claim(job_id, "worker")
    assert claim is not None
    for name in ("report.json", "log.txt"):
        parts.storage.put_bytes(keys.artifact_key(PROJECT, job_id, 1, name), b"{}")
    parts.jobs.finalizing(claim)
    made = Artifact(name="report.json", format="json", bytes=2, sha256="0" * 64)
    parts.jobs.commit(claim, Outcome.succeeded([made], None))
    Settler(parts.jobs, parts.storage).settle(parts.jobs.get(PROJECT, job_id))
    return job_id


def test_times_are_shown_where_things_are_kept_for_a_time(
    caller: Caller, parts: Services, done: str, app: Flask
) -> None:
    def shown() -> tuple[Job, Model]:
        job = Job.model_validate(caller.get(f"/v1/jobs/{done}").json)
        return job, Model.model_validate(caller.get(f"/v1/models/{job.model_id}").json)

    job, model = shown()
    assert (job.expires_at, job.artifacts_expire_at, model.expires_at) == (None, None, None)
    run = app.test_cli_runner().invoke
    changed = run(args=["projects", "limits", PROJECT, "--models-ttl-s", "60", "--jobs-ttl-s", "100"])
    assert "models_ttl_s  60" in changed.output
    assert "artifacts_ttl_s  for ever" in changed.output
    job, model = shown()
    assert model.expires_at == model.created_at + timedelta(seconds=60)
    assert job.ended_at is not None
    assert job.expires_at == job.artifacts_expire_at == job.ended_at + timedelta(seconds=100)
    run(args=["projects", "limits", PROJECT, "--artifacts-ttl-s", "10"])
    assert shown()[0].artifacts_expire_at == job.ended_at + timedelta(seconds=10)
    listed = caller.get("/v1/jobs").json["data"][0]
    assert datetime.fromisoformat(listed["expires_at"]) == job.expires_at
    assert caller.get("/v1/models").json["data"][0]["expires_at"]
    assert caller.get("/v1/datasets").json["data"][0]["expires_at"] is None
    assert caller.get("/v1/usage").json["limits"]["models_ttl_s"] == 60


def test_files_whose_time_is_over_are_gone_and_the_job_says_so(
    caller: Caller, parts: Services, done: str
) -> None:
    etag = caller.get(f"/v1/jobs/{done}").headers["ETag"]
    paths = [f"/v1/jobs/{done}/{rest}" for rest in ("report", "artifacts/report.json", "logs")]
    assert [caller.get(path).status_code for path in paths] == [200, 302, 200]
    # Marked, with every byte still there.
    assert parts.removal._run("expire_artifacts", PROJECT, done)
    for path in paths:
        problem = assert_problem(caller.get(path), "artifacts_expired")
        assert problem["status"] == 410
    assert_problem(caller.get(f"/v1/jobs/{done}/artifacts/other"), "not_found")
    job = caller.get(f"/v1/jobs/{done}", headers={"If-None-Match": etag})
    assert (job.status_code, job.json["artifacts"][0]["name"]) == (200, "report.json")
    assert job.json["artifacts_expired_at"]


def test_a_job_is_removed_with_all_it_made(
    caller: Caller, stranger: Caller, parts: Services, done: str
) -> None:
    path = f"/v1/jobs/{done}"
    assert_problem(stranger("DELETE", path), "not_found")
    assert caller("DELETE", path).status_code == 204
    for rest in ("", "/events", "/logs", "/report", "/artifacts"):
        assert_problem(caller.get(f"{path}{rest}"), "not_found")
    assert_problem(caller("DELETE", path), "not_found")
    assert parts.storage.list_keys(keys.job_prefix(PROJECT, done)) == []
    assert caller.get("/v1/usage").json["stored"]["job_files"] == 0
    assert caller.get("/v1/jobs").json["data"] == []


def test_what_is_needed_is_not_removed(caller: Caller, parts: Services) -> None:
    job_id = caller.job()
    job = parts.jobs.get(PROJECT, job_id)
    for path in (f"/v1/models/{job.model_id}", f"/v1/datasets/{job.dataset_id}"):
        assert job_id in assert_problem(caller("DELETE", path), "resource_in_use")["detail"]
        assert caller.get(path).status_code == 200
    assert_problem(caller("DELETE", f"/v1/jobs/{job_id}"), "job_not_done")
    caller.post(f"/v1/jobs/{job_id}/cancel")
    for path in (f"/v1/models/{job.model_id}", f"/v1/datasets/{job.dataset_id}"):
        assert caller("DELETE", path).status_code == 204
    assert caller.get("/v1/usage").json["stored_bytes"] == 0


def test_storage_that_is_away_removes_later(
    caller: Caller, parts: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_id = caller.model()

    def away(*_: object) -> None:
        raise StorageUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "delete", away)
        assert caller("DELETE", f"/v1/models/{model_id}").status_code == 202
    assert_problem(caller.get(f"/v1/models/{model_id}"), "not_found")
    assert caller.get("/v1/usage").json["stored_bytes"] > 0
    parts.sweeper.turn()
    assert caller.get("/v1/usage").json["stored_bytes"] == 0
    assert not parts.storage.exists(keys.model_key(PROJECT, model_id))


def test_an_operator_stops_and_resumes_the_sweeper(
    app: Flask, caller: Caller, parts: Services, done: str, with_settings: Callable[..., Caller]
) -> None:
    run = app.test_cli_runner().invoke
    assert "running" in run(args=["retention", "status"]).output
    assert run(args=["retention", "stop"]).output == "stopped\n"
    assert "stopped since 20" in run(args=["retention", "status"]).output
    parts.limits.change(PROJECT, {"jobs_ttl_s": 1})
    parts.redis.hset(f"fw:job:{done}", "ended_at", 1)
    parts.redis.zadd(f"fw:jobs:{PROJECT}", {done: (time.time() - 10) * 1e6}, xx=True)
    parts.sweeper.turn()
    assert caller.get(f"/v1/jobs/{done}").status_code == 200
    assert run(args=["retention", "resume"]).output == "running\n"
    parts.sweeper.turn()
    assert_problem(caller.get(f"/v1/jobs/{done}"), "not_found")
    found = run(args=["retention", "status", "--json"])
    assert '"jobs": 1' in found.output


def test_an_operator_reconciles_storage(app: Flask, caller: Caller, parts: Services, done: str) -> None:
    key = f"projects/{PROJECT}/models/mdl_nobody/mdl_nobody.bin"
    run = app.test_cli_runner().invoke
    options = ["storage", "reconcile", "--project", PROJECT]
    # Storage is shared by all tests of a session, whose records are gone.
    parts.storage.delete_prefix(f"projects/{PROJECT}/")
    parts.storage.abort_uploads(f"projects/{PROJECT}/")
    caller.model()
    assert "all is well" in run(args=[*options]).output or run(args=options).exit_code == 1
    parts.storage.put_bytes(key, b"12345")
    young = run(args=[*options, "--delete-orphans"])
    assert "1 objects without a record, too young to be orphans" in young.output
    assert parts.storage.exists(key)
    assert run(args=[*options, "--older-than", "0"]).exit_code == 2
    lines = [json.loads(line) for line in run(args=[*options, "--json"]).output.splitlines()]
    assert lines[-1]["younger"] == 1
    # The job's files went with the folder.
    assert {line["what"] for line in lines[:-1]} == {"missing_object"}
    assert run(args=["storage", "reconcile", "--project", "../x"]).exit_code == 2
