"""The API as curl and other plain HTTP clients see it, on the running stack."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local.stack import LocalStack
from tests.conftest import Digits

pytestmark = [pytest.mark.slow, pytest.mark.stack]

SPEC = {"steps": [{"technique": "quantize", "scheme": "dynamic_int8"}]}


@pytest.fixture
def http(stack: LocalStack) -> Any:
    with httpx.Client(
        base_url=stack.url, headers={"Authorization": f"Bearer {stack.api_key}"}, timeout=90
    ) as client:
        yield client


@pytest.fixture(scope="module")
def job(stack: LocalStack, digits: Digits) -> dict[str, Any]:
    """A job sent with curl alone, and done."""
    model = curl(stack, "-X", "POST", "-T", str(digits.model), "/v1/models?filename=digits.keras")
    body = json.dumps({"model_id": model["id"], "spec": SPEC})
    made = curl(
        stack, "-H", "Content-Type: application/json", "-H", "Prefer: wait=60", "-d", body, "/v1/jobs"
    )
    while not made["done"]:
        made = curl(stack, f"/v1/jobs/{made['id']}?wait=30")
    return made


def curl(stack: LocalStack, *arguments: str) -> dict[str, Any]:
    """What curl prints for `arguments`, the last of them a path of the API."""
    program = shutil.which("curl")
    assert program, "curl is needed (Debian: apt-get install curl)"
    *options, path = arguments
    key = f"Authorization: Bearer {stack.api_key}"
    done = subprocess.run(
        [program, "-sS", "--fail-with-body", "-H", key, *options, f"{stack.url}{path}"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_a_model_sent_by_curl_is_compressed(job: dict[str, Any]) -> None:
    assert job["state"] == "succeeded", job["error"]
    assert "model.tflite" in {artifact["name"] for artifact in job["artifacts"]}


def test_a_streamed_upload_is_stored_as_it_was_sent(stack: LocalStack, digits: Digits) -> None:
    digest = hashlib.sha256(digits.model.read_bytes()).hexdigest()
    sent = curl(
        stack, "-X", "POST", "-T", str(digits.model), f"/v1/models?filename=digits.keras&sha256={digest}"
    )
    assert (sent["sha256"], sent["bytes"]) == (digest, digits.model.stat().st_size)


def test_a_chunked_upload_needs_no_content_length(stack: LocalStack, digits: Digits) -> None:
    chunked = ["-H", "Transfer-Encoding: chunked", "-X", "POST", "-T", str(digits.model)]
    assert curl(stack, *chunked, "/v1/models?filename=digits.keras")["bytes"] == digits.model.stat().st_size


def test_a_wrong_digest_is_refused_and_nothing_is_stored(http: httpx.Client, digits: Digits) -> None:
    before = http.get("/v1/models", params={"limit": 1}).json()["data"]
    answer = http.post(
        "/v1/models", params={"filename": "m.keras", "sha256": "0" * 64}, content=digits.model.read_bytes()
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "sha256_mismatch")
    assert http.get("/v1/models", params={"limit": 1}).json()["data"] == before


def test_an_artifact_comes_from_a_presigned_url_that_needs_no_key(
    http: httpx.Client, job: dict[str, Any], tmp_path: Path
) -> None:
    artifact = next(each for each in job["artifacts"] if each["name"] == "model.tflite")
    redirect = http.get(f"/v1/jobs/{job['id']}/artifacts/model.tflite")
    assert redirect.status_code == 302
    content = httpx.get(redirect.headers["Location"]).content
    assert hashlib.sha256(content).hexdigest() == artifact["sha256"]
    assert content[4:8] == b"TFL3"


def test_events_go_on_after_the_last_event_id(http: httpx.Client, job: dict[str, Any]) -> None:
    everything = events(http, job["id"])
    assert everything[0][0] == "state"
    assert json.loads(everything[-1][2])["state"] == "succeeded"
    middle = len(everything) // 2
    rest = events(http, job["id"], after=everything[middle][1])
    assert rest == everything[middle + 1 :]


def events(http: httpx.Client, job_id: str, after: str | None = None) -> list[tuple[str, str, str]]:
    """(event, id, data) of each event, until the stream ends by itself."""
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})}
    found: list[tuple[str, str, str]] = []
    with http.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        for block in "".join(stream.iter_text()).split("\n\n"):
            fields = dict(
                line.split(": ", 1) for line in block.splitlines() if ": " in line and line[0] != ":"
            )
            if "data" in fields:
                found.append((fields.get("event", "message"), fields["id"], fields["data"]))
    return found


def test_the_record_is_not_sent_again_while_it_is_the_same(http: httpx.Client, job: dict[str, Any]) -> None:
    first = http.get(f"/v1/jobs/{job['id']}")
    again = http.get(f"/v1/jobs/{job['id']}", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304


def test_without_a_key_nothing_is_shown(stack: LocalStack, job: dict[str, Any]) -> None:
    for key in (None, "Bearer fw_wrong_key", f"Bearer {stack.api_key}x", "Basic Zm9vOmJhcg=="):
        answer = httpx.get(f"{stack.url}/v1/jobs/{job['id']}", headers={"Authorization": key} if key else {})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


def test_the_log_and_the_report_can_be_read(http: httpx.Client, job: dict[str, Any]) -> None:
    assert http.get(f"/v1/jobs/{job['id']}/logs").headers["Content-Type"].startswith("text/plain")
    report = http.get(f"/v1/jobs/{job['id']}/report").json()
    assert report["job_id"] == job["id"]
    assert report["version"] == 1
