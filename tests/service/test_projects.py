"""A paused project: its jobs are taken and wait."""

from __future__ import annotations

from datetime import UTC, datetime

from flask import Flask

from service.services import Services
from tasks.records import Outcome
from tests.service.helpers import PROJECT, Caller, assert_problem


def test_a_paused_project_has_its_jobs_wait_and_a_resumed_one_has_them_done(
    admin: Caller, stranger: Caller, parts: Services
) -> None:
    running = admin.job()
    claim = parts.jobs.claim(running, "worker")
    paused = admin.post("/v1/project/pause").json
    assert (paused["name"], paused["paused"]) == (PROJECT, True)
    since = datetime.fromisoformat(paused["paused_at"])
    assert abs((datetime.now(UTC) - since).total_seconds()) < 60
    # Accepted and queued, by whoever may submit.
    waiting = admin.job()
    assert admin.get(f"/v1/jobs/{waiting}").json["state"] == "queued"
    assert parts.jobs.claim(waiting, "worker") is None
    assert parts.jobs.unannounced("tensorflow", 0) == []
    # Those that run go on, and others are not held up.
    assert claim is not None
    assert parts.jobs.renew(claim).owned
    other = stranger.job()
    assert parts.jobs.claim(waiting, "worker").job_id == other  # type: ignore[union-attr]
    assert parts.jobs.commit(claim, Outcome.cancelled())
    assert admin.get("/v1/usage").json["paused"] is True
    assert stranger.get("/v1/usage").json["paused"] is False
    # Twice is once.
    assert admin.post("/v1/project/pause").json == paused == admin.get("/v1/project").json
    parts.redis.delete("tensorflow")
    resumed = admin.post("/v1/project/resume").json
    assert (resumed["paused"], resumed["paused_at"]) == (False, None)
    assert parts.queue.hinted() == {waiting}
    assert parts.jobs.claim(waiting, "worker").job_id == waiting  # type: ignore[union-attr]
    assert admin.post("/v1/project/resume").json == resumed == admin.get("/v1/project").json


def test_the_deadlines_of_jobs_that_wait_count_on(admin: Caller, parts: Services) -> None:
    job_id = admin.job(limits={"max_queue_s": 60})
    admin.post("/v1/project/pause")
    parts.redis.zadd("fw:deadlines", {job_id: 0})
    assert parts.jobs.expire_queued() == [job_id]


def test_jobs_of_a_paused_project_can_be_cancelled_and_cloned(admin: Caller) -> None:
    admin.post("/v1/project/pause")
    job_id = admin.job()
    assert admin.post(f"/v1/jobs/{job_id}/cancel").json["state"] == "cancelled"
    assert admin.post(f"/v1/jobs/{job_id}/retry").json["state"] == "queued"


def test_only_admins_pause(caller: Caller) -> None:
    for verb in ("pause", "resume"):
        assert_problem(caller.post(f"/v1/project/{verb}"), "scope_missing")
    assert caller.get("/v1/project").json["paused"] is False


def test_operators_pause_projects_too_and_it_is_in_the_audit_log(app: Flask, admin: Caller) -> None:
    runner = app.test_cli_runner()
    said = runner.invoke(args=["projects", "pause", PROJECT])
    assert said.output.strip() == f"{PROJECT}  paused"
    assert admin.get("/v1/project").json["paused"] is True
    assert runner.invoke(args=["projects", "resume", PROJECT]).output.strip() == f"{PROJECT}  not paused"
    assert admin.get("/v1/project").json["paused"] is False
    assert "is not a name" in runner.invoke(args=["projects", "pause", "a b"]).output
    actions = [entry["action"] for entry in admin.get("/v1/audit").json["data"]]
    assert actions.count("projects.pause") == actions.count("projects.resume") == 1
