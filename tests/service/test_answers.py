"""What every answer has: a request id, safe headers, a line in the log without secrets."""

from __future__ import annotations

import json
import logging

import pytest
from flask import Flask

from featherweight.resources import Health
from service.requestlog import OneLine
from service.services import Services
from tasks.presence import Presence, WorkerStatus
from tests.service.helpers import Caller


def test_a_sane_request_id_is_kept_and_another_replaced(caller: Caller) -> None:
    def sent(value: str) -> str:
        return caller.get("/v1/jobs", headers={"X-Request-Id": value}).headers["X-Request-Id"]

    assert sent("trace-1.A_b") == "trace-1.A_b"
    for odd in ("", "a" * 65, "a b", "ä", '"', "-x"):
        assert sent(odd).startswith("req_")


def test_every_answer_has_safe_headers(caller: Caller) -> None:
    for path in ("/v1/jobs", "/", "/nothing", "/openapi.json"):
        headers = caller.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert caller.get("/v1/jobs").headers["Cache-Control"] == "no-store"
    assert "Cache-Control" not in caller.get("/openapi.json").headers


def test_https_is_told_to_stay_https(caller: Caller) -> None:
    assert "Strict-Transport-Security" not in caller.get("/v1/jobs").headers
    for path in ("/v1/jobs", "/healthz", "/nothing"):
        secure = caller.get(path, base_url="https://featherweight.example")
        assert "max-age=" in secure.headers["Strict-Transport-Security"]


def test_what_needed_a_key_is_not_kept_by_caches(app: Flask, caller: Caller) -> None:
    job_id = caller.job()
    for path in ("/v1/jobs", f"/v1/jobs/{job_id}", "/v1/usage", "/v1/techniques", "/v1/jobs/job_none"):
        assert caller.get(path).headers["Cache-Control"] == "no-store", path


def test_a_request_leaves_one_line_without_secrets(caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="service"):
        caller.get("/v1/models?cursor=topsecret", headers={"X-Request-Id": "trace-1"})
    (record,) = [record for record in caplog.records if record.name == "service.requests"]
    text = OneLine().format(record)
    line = json.loads(text)
    assert "\n" not in text
    assert "topsecret" not in text
    assert caller.key not in text
    assert line["request_id"] == "trace-1"
    assert (line["method"], line["route"], line["status"]) == ("GET", "/v1/models", 400)
    assert (line["project"], line["code"]) == ("acme", "bad_cursor")


def test_the_index_links_to_what_there_is(app: Flask, admin: Caller) -> None:
    links = admin.get("/").json["links"]
    for path in links.values():
        assert admin.get(path).status_code in (200, 405), path


def test_health_and_readiness(app: Flask) -> None:
    client = app.test_client()
    assert Health.model_validate(client.get("/healthz").json).status == "ok"
    ready = Health.model_validate(client.get("/readyz").json)
    assert (ready.status, ready.checks) == (
        "ok",
        {"redis": "ok", "storage": "ok", "messages": "ok"}
        | dict.fromkeys(("workers", "workers:tensorflow", "workers:torch"), "none"),
    )


@pytest.mark.parametrize(
    ("states", "status", "said"),
    [
        (["unusable"], 503, "unusable: the kernel has no Landlock"),
        (["starting"], 200, "starting"),
        (["unusable", "starting"], 200, "starting"),
        (["unusable", "ready"], 200, "ok"),
    ],
)
def test_readiness_knows_whether_workers_take_jobs(
    app: Flask, parts: Services, states: list[str], status: int, said: str
) -> None:
    for number, state in enumerate(states):
        presence = Presence(parts.redis, f"worker-{number}")
        presence.status = WorkerStatus.model_validate({"state": state, "why": "the kernel has no Landlock"})
    answer = app.test_client().get("/readyz")
    assert (answer.status_code, answer.json["checks"]["workers"]) == (status, said)
    assert answer.json["status"] == ("ok" if status == 200 else "unavailable")


def test_readiness_tells_which_queue_nobody_serves(app: Flask, parts: Services) -> None:
    presence = Presence(parts.redis, "worker-1")
    presence.queues = ("torch",)
    presence.status = WorkerStatus(state="ready")
    checks = app.test_client().get("/readyz").json["checks"]
    assert (checks["workers"], checks["workers:torch"]) == ("ok", "ok")
    assert checks["workers:tensorflow"] == "none"
    # One that is there and takes none is said of its queue; the service is ready all the same.
    other = Presence(parts.redis, "worker-2")
    other.queues = ("tensorflow",)
    other.status = WorkerStatus(state="unusable", why="the kernel has no Landlock")
    answer = app.test_client().get("/readyz")
    assert answer.status_code == 200
    assert answer.json["checks"]["workers:tensorflow"] == "unusable: the kernel has no Landlock"


def test_worker_that_says_nothing_any_more_is_gone(app: Flask, parts: Services) -> None:
    presence = Presence(parts.redis, "worker-1")
    presence.status = WorkerStatus(state="unusable", why="x")
    assert 0 < parts.redis.ttl("fw:worker:worker-1") < 60
    parts.redis.delete("fw:worker:worker-1")
    assert app.test_client().get("/readyz").json["checks"]["workers"] == "none"
    assert parts.redis.scard("fw:workers") == 0


def test_metrics_count_requests_by_route_and_jobs_by_state(caller: Caller, stranger: Caller) -> None:
    job_id = caller.job()
    stranger.job()
    caller.post(f"/v1/jobs/{job_id}/cancel")
    for name in ("a", "b"):
        caller.get(f"/v1/jobs/job_{name}")
    caller("BREW", "/teapot")
    text = caller.get("/metrics").text
    assert (
        'featherweight_http_requests_total{method="GET",route="/v1/jobs/<job_id>",status="404"} 2.0' in text
    )
    assert 'method="other",route="none"' in text
    assert 'featherweight_jobs{state="queued"} 1.0' in text
    assert 'featherweight_jobs{state="cancelled"} 1.0' in text
    assert "featherweight_http_request_seconds_bucket" in text


def test_a_problem_page_is_json_or_html(app: Flask) -> None:
    client = app.test_client()
    page = client.get("/problems/bad_json")
    assert (page.json["code"], page.json["status"]) == ("bad_json", 400)
    html = client.get("/problems/bad_json", headers={"Accept": "text/html"})
    assert html.content_type.startswith("text/html")
    assert "bad_json" in html.text


def test_techniques_and_spec_schema_are_json_schemas(caller: Caller) -> None:
    from jsonschema import Draft202012Validator

    from tests.service.helpers import SPEC

    techniques = caller.get("/v1/techniques").json["data"]
    assert {row["technique"] for row in techniques} >= {"prune", "finetune", "quantize"}
    for row in techniques:
        Draft202012Validator.check_schema(row["schema"])
    schema = caller.get("/v1/spec/schema").json
    Draft202012Validator(schema).validate(SPEC)
