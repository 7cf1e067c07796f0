"""Files that are fetched from a URL, from a real https server, and from the project's own objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from deploy.local.processes import free_port
from featherweight.resources import Import, Model
from service.importslots import ImportSlots, NoSlot
from service.services import NAME, Services
from tasks import keys
from tasks.outbound import Fetcher, Policy
from tests.service.helpers import KERAS, NPZ, PROJECT, Caller, assert_problem, sha256
from tests.web_server import WebServer, web_server

CHUNKED = (
    200,
    {"Content-Length": "", "Transfer-Encoding": "chunked"},
    b"400\r\n" + KERAS.ljust(1024) + b"\r\n0\r\n\r\n",
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WebServer]:
    with web_server(tmp_path) as server:
        server.pages["/nets/le%20net.keras"] = KERAS
        server.pages["/data.npz"] = NPZ
        yield server


@pytest.fixture
def importing(app: Flask, server: WebServer, caller: Caller) -> Caller:
    """A caller of a service that trusts the server, whose name leads to it."""
    found: Services = app.extensions[NAME]
    fetcher = Fetcher(
        Policy.of("443", server.origin),
        timeout_s=2,
        resolve=lambda host, port: ["127.0.0.1"],
        ssl_context=server.client_tls,
    )
    settings = found.settings.model_copy(update={"imports": True, "max_model_bytes": 1000})
    app.extensions[NAME] = dataclasses.replace(found, fetcher=fetcher, settings=settings)
    return caller


def imports(caller: Caller, url: str, **body: Any) -> Any:
    headers = body.pop("headers", {})
    return caller.post("/v1/imports", json={"kind": "model", "url": url, **body}, headers=headers)


def test_a_file_becomes_a_model_like_one_that_was_sent(
    importing: Caller, server: WebServer, parts: Services
) -> None:
    answer = imports(importing, f"{server.origin}/nets/le%20net.keras", sha256=sha256(KERAS))
    assert answer.status_code == 201, answer.text
    made = Import.model_validate(answer.json)
    assert (made.kind, made.filename, made.format) == ("model", "le net.keras", "keras_zip")
    assert (made.bytes, made.sha256) == (len(KERAS), sha256(KERAS))
    assert answer.headers["Location"] == f"/v1/models/{made.resource_id}"
    model = Model.model_validate(importing.get(answer.headers["Location"]).json)
    assert (model.sha256, model.filename) == (made.sha256, made.filename)
    assert parts.storage.read(keys.model_key(PROJECT, made.resource_id)) == KERAS


def test_a_data_set_and_a_name_of_ones_own(importing: Caller, server: WebServer) -> None:
    answer = imports(importing, f"{server.origin}/data.npz", kind="dataset", filename="digits.npz")
    assert answer.headers["Location"].startswith("/v1/datasets/ds_")
    assert answer.json["filename"] == "digits.npz"


def test_the_same_key_fetches_once(importing: Caller, server: WebServer) -> None:
    first, again = (
        imports(importing, f"{server.origin}/nets/le%20net.keras", headers={"Idempotency-Key": "k"})
        for _ in range(2)
    )
    assert (first.json, again.headers["Idempotency-Replayed"]) == (again.json, "true")
    assert len(server.requests) == 1
    other = imports(importing, f"{server.origin}/other", headers={"Idempotency-Key": "k"})
    assert_problem(other, "idempotency_key_reused")


@pytest.mark.parametrize(("page", "code"), [
    ((302, {"Location": "https://169.254.169.254/"}, b""), "import_failed"),
    ((404, {}, b""), "import_failed"),
    ((200, {"Content-Length": "1000"}, b"short"), "import_failed"),
    ((200, {"Content-Encoding": "gzip"}, KERAS), "import_failed"),
    (b"", "import_failed"),
    (KERAS + bytes(1000), "import_too_large"),
    (CHUNKED, "import_too_large"),
    (b"no model at all" * 5, "unknown_file_type"),
    (KERAS + b"x", "sha256_mismatch"),
])  # fmt: skip
def test_what_is_refused_leaves_nothing(
    importing: Caller, server: WebServer, parts: Services, page: Any, code: str
) -> None:
    server.pages["/model"] = page
    digest = sha256(KERAS)
    answer = imports(importing, f"{server.origin}/model", sha256=digest, headers={"Idempotency-Key": "k"})
    assert_problem(answer, code)
    assert importing.get("/v1/models").json["data"] == []
    # The key is free again, as after every refusal.
    server.pages["/model"] = KERAS
    assert (
        imports(
            importing, f"{server.origin}/model", sha256=digest, headers={"Idempotency-Key": "k"}
        ).status_code
        == 201
    )


@pytest.mark.parametrize("url", [
    "http://169.254.169.254/latest/meta-data/", "https://127.0.0.1/", "https://[::ffff:7f00:1]/",
    "https://2130706433/",
    "file:///etc/passwd", "https://user:secret@models.example/", "https://models.example:22/", "gs://b/x",
    "/x",
])  # fmt: skip
def test_urls_that_lead_elsewhere_are_not_allowed(importing: Caller, server: WebServer, url: str) -> None:
    problem = assert_problem(imports(importing, url), "url_not_allowed", pointers={"/url"})
    assert "secret" not in str(problem)
    assert server.connections == 0


def test_an_unreachable_host_is_said(importing: Caller, server: WebServer, app: Flask) -> None:
    found: Services = app.extensions[NAME]
    nobody = f"https://models.example:{free_port()}"
    fetcher = Fetcher(Policy.of("443", nobody), resolve=lambda host, port: ["127.0.0.1"])
    app.extensions[NAME] = dataclasses.replace(found, fetcher=fetcher)
    assert_problem(imports(importing, f"{nobody}/x"), "import_failed", pointers={"/url"})


def test_without_the_setting_nothing_is_fetched(caller: Caller) -> None:
    problem = assert_problem(imports(caller, "https://models.example/m.keras"), "imports_disabled")
    assert "/v1/uploads" in problem["hint"]


@pytest.mark.parametrize(("body", "pointer"), [
    ({"kind": "job", "url": "https://a.example/"}, "/kind"),
    ({"kind": "model"}, "/url"),
    ({"kind": "model", "url": ""}, "/url"),
    ({"kind": "model", "url": "https://a.example/", "sha256": "x"}, "/sha256"),
    ({"kind": "model", "url": "https://a.example/", "filename": "../up"}, "/filename"),
    ({"kind": "model", "url": "https://a.example/", "headers": {}}, "/headers"),
])  # fmt: skip
def test_a_malformed_request_names_the_field(caller: Caller, body: dict[str, Any], pointer: str) -> None:
    assert_problem(caller.post("/v1/imports", json=body), "invalid_request", pointers={pointer})


def test_an_object_of_the_project_becomes_a_model(caller: Caller, parts: Services) -> None:
    parts.storage.put_bytes(key := f"projects/{PROJECT}/jobs/job_a/a1/model.keras", KERAS)
    answer = imports(caller, f"s3://{parts.settings.s3_bucket}/{key}")
    assert (answer.status_code, answer.json["sha256"]) == (201, sha256(KERAS))
    assert answer.json["filename"] == "model.keras"


@pytest.mark.parametrize("uri", [
    "s3://other-bucket/projects/{project}/jobs/job_a/a1/model.keras",
    "s3://{bucket}/projects/other/jobs/job_a/a1/model.keras",
    "s3://{bucket}/projects/{project}/../other/jobs/job_a/a1/model.keras",
    "s3://{bucket}/projects/{project}/jobs/../../other/jobs/job_a/a1/model.keras",
    "s3://{bucket}/projects/{project}/jobs/./job_a/a1/model.keras",
    "s3://{bucket}/projects/{project}//jobs/job_a/a1/model.keras",
    "s3://{bucket}/projects/{project}x/jobs/job_a/a1/model.keras",
    "s3://{bucket}/projects/{project}/jobs/job_a/a1/%2e%2e/model.keras",
    "s3://{bucket}/projects/{project}/jobs/job_a/a1/model.keras\n",
    "s3://{bucket}/receipt-keys/key.json", "s3://{bucket}", "s3://{bucket}/", "s3:///projects/{project}/jobs/a/b",
    "s3://user@{bucket}/projects/{project}/jobs/a/b", "S3://other/x",
])  # fmt: skip
def test_objects_of_others_are_not_allowed_there_or_not(
    caller: Caller, stranger: Caller, parts: Services, uri: str
) -> None:
    parts.storage.put_bytes("projects/other/jobs/job_a/a1/model.keras", KERAS)
    answer = imports(caller, uri.format(bucket=parts.settings.s3_bucket, project=PROJECT))
    assert_problem(answer, "uri_not_allowed", pointers={"/url"})


def test_an_object_that_is_not_there(caller: Caller, parts: Services) -> None:
    uri = f"s3://{parts.settings.s3_bucket}/projects/{PROJECT}/jobs/job_none/a1/model.keras"
    assert_problem(imports(caller, uri), "import_failed")


def test_slots_are_shared_among_projects() -> None:
    slots = ImportSlots(at_once=3, for_each=2)
    with slots.taken("a"), slots.taken("a"):
        with pytest.raises(NoSlot), slots.taken("a"):
            pass
        with slots.taken("b"), pytest.raises(NoSlot), slots.taken("c"):
            pass
    with slots.taken("a"), slots.taken("c"):
        pass


def test_more_than_a_projects_share_is_told_to_come_again(
    importing: Caller, server: WebServer, app: Flask
) -> None:
    found: Services = app.extensions[NAME]
    with found.imports.taken(PROJECT), found.imports.taken(PROJECT):
        answer = imports(importing, f"{server.origin}/nets/le%20net.keras")
        assert_problem(answer, "overloaded")
        assert answer.headers["Retry-After"]
