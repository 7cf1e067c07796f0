"""Who did what: the entries of a project, for those who may read them."""

from __future__ import annotations

import json
import logging

import pytest
import redis
from flask import Flask

from service.auditlog import AuditLog
from service.requestlog import OneLine
from service.services import Services
from tasks.settings import Settings
from tests.service.helpers import KERAS, PROJECT, Caller, assert_problem


def entries(admin: Caller, query: str = "") -> list[dict[str, object]]:
    found: list[dict[str, object]] = admin.get(f"/v1/audit{query}").json["data"]
    return found


def test_what_changes_something_leaves_an_entry(caller: Caller, admin: Caller, parts: Services) -> None:
    job_id = caller.job()
    caller.post(f"/v1/jobs/{job_id}/cancel", headers={"X-Request-Id": "trace-7"})
    caller.get(f"/v1/jobs/{job_id}")
    caller.post("/v1/jobs", json={})
    found = entries(admin)
    key_id = parts.keys.verify(caller.key).id
    assert [entry["action"] for entry in found] == [
        "jobs.create",
        "jobs.cancel",
        "jobs.create",
        "datasets.create",
        "models.create",
    ]
    refused, cancelled, created, *_ = found
    assert (refused["outcome"], refused["status"], refused["target"]) == ("invalid_request", 422, None)
    assert (cancelled["outcome"], cancelled["target"], cancelled["request_id"]) == ("ok", job_id, "trace-7")
    assert (created["target"], created["status"]) == (job_id, 202)
    assert {entry["key_id"] for entry in found} == {key_id}


def test_fetching_files_and_refusals_leave_entries_too(caller: Caller, admin: Caller) -> None:
    job_id = caller.job()
    caller.get(f"/v1/jobs/{job_id}/artifacts/model.tflite")
    assert_problem(caller.get("/v1/audit"), "scope_missing")
    refused, fetched, *_ = entries(admin)
    assert (refused["action"], refused["outcome"]) == ("audit.index", "scope_missing")
    assert (fetched["action"], fetched["outcome"]) == ("jobs.artifact", "job_not_done")
    # Reading the log is in the log.
    assert entries(admin)[0]["action"] == "audit.index"


def test_entries_are_of_the_project_alone(app: Flask, parts: Services, caller: Caller) -> None:
    caller.model()
    foreign = Caller(app, parts.keys.create("other", scope="admin"))
    assert entries(foreign) == []


def test_pages_follow_one_another(caller: Caller, admin: Caller) -> None:
    models = [caller.model() for _ in range(5)]
    first = admin.get("/v1/audit?limit=2").json
    assert [entry["target"] for entry in first["data"]] == [models[4], models[3]]
    assert first["has_more"]
    second = admin.get(f"/v1/audit?limit=2&cursor={first['next_cursor']}").json
    assert [entry["target"] for entry in second["data"]] == [models[2], models[1]]
    for cursor in ("x", "1", "1-2-3", "%2B", "0-0 COUNT 5"):
        assert_problem(admin.get(f"/v1/audit?cursor={cursor}"), "bad_cursor")


def test_what_the_operator_does_is_told(app: Flask, admin: Caller) -> None:
    run = app.test_cli_runner().invoke
    key = run(args=["keys", "create", "--project", PROJECT]).output.strip()
    key_id = key[3:].rpartition("_")[0]
    run(args=["keys", "revoke", key_id])
    run(args=["projects", "limits", PROJECT, "--queued-jobs", "7"])
    found = entries(admin)
    assert [(entry["action"], entry["target"]) for entry in found] == [
        ("projects.limits", "queued_jobs=7.0"),
        ("keys.revoke", key_id),
        ("keys.create", key_id),
    ]
    assert {entry["key_id"] for entry in found} == {"operator"}


def test_the_stream_of_a_logger_has_them_and_those_without_a_project(
    app: Flask, caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="service"):
        model = caller.model()
        app.test_client().delete(f"/v1/models/{model}", headers={"Authorization": "Bearer fw_wrong"})
    lines = [json.loads(OneLine().format(r)) for r in caplog.records if r.name == "service.audit"]
    assert [(line.get("project"), line["action"], line["outcome"]) for line in lines] == [
        (PROJECT, "models.create", "ok"),
        (None, "models.delete", "unauthenticated"),
    ]
    assert "fw_wrong" not in str(lines)


def test_old_entries_and_too_many_are_not_kept(settings: Settings, redis_client: redis.Redis) -> None:
    log = AuditLog(redis_client, settings.model_copy(update={"audit_max": 100}))
    redis_client.xadd(f"fw:audit:{PROJECT}", {"action": "old", "outcome": "ok"}, id="1000-0")
    for _ in range(600):
        log.record(project=PROJECT, key_id="key_a", action="new", outcome="ok")
    # Redis drops whole nodes of a stream, of 100 entries.
    assert 100 <= redis_client.xlen(f"fw:audit:{PROJECT}") <= 201
    assert redis_client.xrange(f"fw:audit:{PROJECT}", max="1000-0") == []
    assert 0 < redis_client.ttl(f"fw:audit:{PROJECT}") <= settings.audit_expiry_s


def test_a_log_that_cannot_be_written_does_not_spoil_the_answer(
    caller: Caller, parts: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object, **__: object) -> None:
        raise redis.ConnectionError("away")

    monkeypatch.setattr(parts.redis, "pipeline", away)
    with caplog.at_level(logging.INFO, logger="service"):
        answer = caller.post("/v1/models", data=KERAS, content_type="application/octet-stream")
    assert answer.status_code == 201
    assert any("this log alone" in record.message for record in caplog.records)
