"""Every route needs a key but those listed here, and opens nothing of another project."""

from __future__ import annotations

import re

import pytest
from flask import Flask
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from featherweight.resources import UploadRequest
from service.keys import SCOPES
from service.multipart import begin
from service.services import Services
from tests.service.helpers import KERAS, PROJECT, Caller, assert_problem, sha256

PUBLIC = {
    ("GET", "/"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/problems/<code>"),
    ("GET", "/.well-known/receipt_keys"),
}

# Beside these, what only looks needs read and everything else submit.
OTHER_SCOPES = {
    ("GET", "/v1/audit"): "admin",
    ("POST", "/v1/project/pause"): "admin",
    ("POST", "/v1/project/resume"): "admin",
}


def routes(app: Flask) -> list[tuple[str, Rule]]:
    return [
        (method, rule)
        for rule in app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]


def told(answer: TestResponse, ids: dict[str, str]) -> tuple[int, dict[str, str], str]:
    """All that an answer says, but for its own id and the ids that were asked for."""
    headers = dict(answer.headers)
    text = answer.text.replace(headers.pop("X-Request-Id"), "")
    for value in ids.values():
        text = text.replace(value, "")
    return answer.status_code, headers, text


def path_of(rule: Rule, **ids: str) -> str:
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda match: ids.get(match[1], "unknown"), rule.rule)


def test_every_route_but_the_public_ones_needs_a_key(app: Flask) -> None:
    client = app.test_client()
    for method, rule in routes(app):
        if (method, rule.rule) in PUBLIC:
            continue
        for headers in ({}, {"Authorization": "Bearer fw_nonsense"}, {"Authorization": "Basic Zm9vOmJhcg=="}):
            answer = client.open(path_of(rule), method=method, headers=headers)
            body = assert_problem(answer, "unauthenticated")
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            assert "fw_nonsense" not in str(body)


def test_a_key_does_nothing_beyond_its_scope(app: Flask, parts: Services) -> None:
    """Every route there is, with every scope: what its method says, or else what is listed here."""
    callers = {scope: Caller(app, parts.keys.create(PROJECT, scope=scope)) for scope in SCOPES}
    tried = dict.fromkeys(SCOPES, 0)
    for method, rule in routes(app):
        if (method, rule.rule) in PUBLIC:
            continue
        needed = OTHER_SCOPES.get((method, rule.rule), "read" if method == "GET" else "submit")
        tried[needed] += 1
        for scope, caller in callers.items():
            answer = caller(method, path_of(rule))
            if SCOPES.index(scope) < SCOPES.index(needed):
                assert_problem(answer, "scope_missing")
                assert needed in answer.json["detail"]
            else:
                assert answer.status_code not in (401, 403), (method, rule.rule, scope)
    assert min(tried.values()) >= 1
    assert tried["read"] >= 12
    assert tried["submit"] >= 11


def test_the_description_says_which_scope_each_operation_needs(app: Flask) -> None:
    paths = app.test_client().get("/openapi.json").json["paths"]
    for method, rule in routes(app):
        described = paths[re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)][method.lower()]
        if (method, rule.rule) in PUBLIC:
            assert described["security"] == []
            continue
        needed = OTHER_SCOPES.get((method, rule.rule), "read" if method == "GET" else "submit")
        assert described["security"] == [{"api_key": [needed]}], rule.rule
        assert "403" in described["responses"]


def test_the_public_routes_need_none(app: Flask) -> None:
    client = app.test_client()
    assert {(method, rule.rule) for method, rule in routes(app)} >= PUBLIC
    for method, path in PUBLIC:
        assert client.open(path.replace("<code>", "bad_json"), method=method).status_code == 200


def test_another_projects_ids_answer_exactly_like_unknown_ones(
    app: Flask, parts: Services, caller: Caller, stranger: Caller
) -> None:
    job_id = caller.job()
    record = parts.jobs.get(PROJECT, job_id)
    wanted = UploadRequest(kind="model", filename="m.keras", size=len(KERAS), sha256=sha256(KERAS))
    upload = begin(parts, PROJECT, "upl_" + "a" * 26, wanted)
    ids = {
        "job_id": job_id,
        "model_id": record.model_id,
        "dataset_id": record.dataset_id or "",
        "upload_id": upload.id,
    }
    tried = 0
    for method, rule in routes(app):
        if rule.arguments and rule.arguments <= ids.keys() | {"name"}:
            foreign = stranger(method, path_of(rule, **ids))
            unknown = stranger(
                method, path_of(rule, **{name: f"{value[:-1]}x" for name, value in ids.items()})
            )
            assert_problem(foreign, "not_found")
            assert_problem(unknown, "not_found")
            for answer, own in ((foreign, ids), (unknown, None)):
                assert all(secret not in answer.text for secret in ("acme", "m.keras")), own
            assert told(foreign, ids) == told(unknown, {name: f"{v[:-1]}x" for name, v in ids.items()})
            tried += 1
        else:
            # A route with an id of another kind: make one above, and see that strangers do not find it.
            assert not rule.arguments - {"code"}, rule.rule
    assert tried >= 14
    # And all of it is still there.
    assert caller.get(f"/v1/jobs/{job_id}").json["state"] == "queued"
    assert caller.get(f"/v1/models/{record.model_id}").status_code == 200
    assert caller.get(f"/v1/datasets/{record.dataset_id}").status_code == 200
    assert caller.get(f"/v1/uploads/{upload.id}").json["state"] == "open"


def test_lists_hold_nothing_of_another_project(caller: Caller, stranger: Caller) -> None:
    caller.job()
    for path in ("/v1/jobs", "/v1/models", "/v1/datasets"):
        assert len(caller.get(path).json["data"]) == 1
        assert stranger.get(path).json["data"] == []


def test_a_job_cannot_be_made_of_another_projects_files(caller: Caller, stranger: Caller) -> None:
    ids = {"model_id": caller.model(), "dataset_id": caller.dataset()}
    others = {name: f"{value[:-1]}x" for name, value in ids.items()}
    spec = {"steps": [{"technique": "prune"}]}
    for path in ("/v1/jobs", "/v1/plans"):
        foreign = stranger.post(path, json={**ids, "spec": spec})
        unknown = stranger.post(path, json={**others, "spec": spec})
        assert_problem(foreign, "invalid_request", pointers={"/model_id", "/dataset_id"})
        assert told(foreign, ids) == told(unknown, others)


def test_an_idempotency_key_of_another_project_is_another_key(caller: Caller, stranger: Caller) -> None:
    body = {"kind": "model", "filename": "m.keras", "size": 7, "sha256": "0" * 64}
    ours, theirs = (
        who.post("/v1/uploads", json=body, headers={"Idempotency-Key": "same"}) for who in (caller, stranger)
    )
    assert (ours.status_code, theirs.status_code) == (201, 201)
    assert ours.json["id"] != theirs.json["id"]


@pytest.mark.parametrize("job_id", ["", "..", "a:b", "*", "job_%00", "x" * 3000, "job_\u2603", "%2e%2e%2f"])
def test_strange_ids_are_unknown_ids(caller: Caller, job_id: str) -> None:
    for path in (f"/v1/jobs/{job_id}/report", f"/v1/models/{job_id}/", f"/v1/uploads/{job_id}/complete"):
        answer = caller("POST" if path.endswith("complete") else "GET", path)
        assert answer.status_code in (404, 405), answer.text
