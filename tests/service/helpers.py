"""Callers that speak the domain, the files they send, and what every problem must be."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import httpx
from flask import Flask
from werkzeug.test import TestResponse

from featherweight.problem import CODES, MEDIA_TYPE

ROOT = Path(__file__).parents[2]
PROJECT = "acme"

SPEC = {
    "version": 1,
    "steps": [
        {
            "technique": "prune",
            "schedule": {"type": "polynomial_decay", "initial_sparsity": 0.5, "final_sparsity": 0.8},
        },
        {"technique": "finetune", "epochs": 1},
        {"technique": "quantize", "scheme": "full_int8"},
    ],
}


def zip_of(first_member: str, size: int = 100) -> bytes:
    """A zip archive that begins with a member of that name."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(first_member, b"\0" * size)
    return out.getvalue()


KERAS = zip_of("metadata.json")
NPZ = zip_of("x_train.npy")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Caller:
    """Somebody with an API key, who speaks in models, data sets and jobs."""

    def __init__(self, app: Flask, key: str) -> None:
        self._client = app.test_client()
        self.key = key

    def __call__(self, method: str, path: str, **options: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {self.key}", **options.pop("headers", {})}
        return self._client.open(path, method=method, headers=headers, **options)

    def get(self, path: str, **options: Any) -> TestResponse:
        return self("GET", path, **options)

    def post(self, path: str, **options: Any) -> TestResponse:
        return self("POST", path, **options)

    def model(self, data: bytes = KERAS) -> str:
        return self._stored("/v1/models?filename=m.keras", data)

    def dataset(self, data: bytes = NPZ) -> str:
        return self._stored("/v1/datasets?filename=d.npz", data)

    def job(self, **changes: Any) -> str:
        """A queued job, with a new model and data set unless `changes` says which."""
        body = {"spec": SPEC, **changes}
        body.setdefault("model_id", self.model())
        body.setdefault("dataset_id", self.dataset())
        answer = self.post("/v1/jobs", json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json["id"])

    def schedule(self, **changes: Any) -> str:
        """A schedule that fires every hour, of a new model and data set unless `changes` says which."""
        body: dict[str, Any] = {"trigger": {"type": "interval", "seconds": 3600}, **changes}
        if "job" not in body:
            body["job"] = {"model_id": self.model(), "dataset_id": self.dataset(), "spec": SPEC}
        answer = self.post("/v1/schedules", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json["id"])

    def _stored(self, path: str, data: bytes) -> str:
        answer = self.post(path, data=data, content_type="application/octet-stream")
        assert answer.status_code == 201, answer.text
        return str(answer.json["id"])


def assert_problem(answer: Any, code: str, *, pointers: set[str] | None = None) -> dict[str, Any]:
    """The answer is a complete problem of that code, naming exactly these pointers if any are given."""
    assert answer.headers["Content-Type"] == MEDIA_TYPE, answer.text
    body: dict[str, Any] = answer.json if isinstance(answer, TestResponse) else answer.json()
    assert body["code"] == code, body
    assert answer.status_code == body["status"] == CODES[code].status
    assert body["type"] == f"/problems/{code}"
    assert body["title"] == CODES[code].title
    assert body["detail"]
    assert body["request_id"] == answer.headers["X-Request-Id"]
    assert "Traceback" not in answer.text
    assert str(ROOT) not in answer.text
    if pointers is not None:
        assert {error["pointer"] for error in body["errors"]} == pointers
    return body


class Served:
    """The service under gunicorn. `http` carries a key."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.key = key
        self.http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30)

    @property
    def address(self) -> tuple[str, int]:
        found = httpx.URL(self.url)
        assert found.port is not None
        return found.host, found.port
