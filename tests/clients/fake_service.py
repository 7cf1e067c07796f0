"""A service that keeps everything in a dictionary and misbehaves when told to.

It speaks the API's language on an httpx.MockTransport: the part under test is the client, so what
stands here is only as much of the service as a client can see.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from featherweight._retry import Clock
from featherweight.client import Client
from featherweight.problem import CODES, problem

API = "http://api.test"
STORAGE = "http://storage.test"
NOW = "2026-01-02T03:04:05Z"
KEY = "fw_key_secret"

Answer = httpx.Response | Exception

USAGE = {
    "object": "usage",
    "project": "acme",
    "stored_bytes": 4_352,
    "stored": {"models": 4_352, "datasets": 0, "uploads": 0, "job_files": 0},
    "running_jobs": 1,
    "queued_jobs": 2,
    "cpu_seconds": 12.5,
    "limits": {"stored_bytes": 1_000_000, "running_jobs": 4},
}


class FakeClock(Clock):
    """Time that passes only by sleeping. `slept` is every sleep there was."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


class Breaking(httpx.SyncByteStream):
    """A body whose connection breaks after `data`."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __iter__(self) -> Iterator[bytes]:
        yield self.data
        raise httpx.ReadError("connection reset")


class FakeService:
    """`script(method, path, answer, …)` answers the next requests of that kind; a callable is asked."""

    part_size = 1000

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.bodies: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = defaultdict(dict)
        self.uploads: dict[str, dict[str, Any]] = {}
        self.files: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.artifacts: dict[str, dict[str, bytes]] = {}
        self.events: dict[str, list[dict[str, Any]]] = {}
        self.report: dict[str, Any] = {}
        self.scripts: dict[tuple[str, str], list[Answer | Callable[[httpx.Request], Answer]]] = {}
        self._lock = threading.Lock()

    def client(self, clock: Clock | None = None, **options: Any) -> Client:
        transport = httpx.MockTransport(self.handle)
        options = {"api_key": KEY, "transport": transport, "storage_transport": transport, **options}
        return Client(API, clock=clock or FakeClock(), **options)

    def script(self, method: str, path: str, *answers: Answer | Callable[[httpx.Request], Answer]) -> None:
        self.scripts.setdefault((method, path), []).extend(answers)

    def asked(self, method: str, path: str) -> list[httpx.Request]:
        return [each for each in self.requests if each.method == method and each.url.path == path]

    # -- answering

    def handle(self, request: httpx.Request) -> httpx.Response:
        request.read()
        with self._lock:
            self.requests.append(request)
            waiting = self.scripts.get((request.method, request.url.path))
            answer = waiting.pop(0) if waiting else None
        if callable(answer) and not isinstance(answer, httpx.Response):
            answer = answer(request)
        if isinstance(answer, httpx.RequestError):
            answer.request = request
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            with self._lock:
                answer = self._routed(request)
        return _unread(answer)

    def _routed(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.strip("/").split("/")
        if request.url.host == "storage.test":
            return self._storage(request, path)
        match request.method, path:
            case "POST", ["v1", "uploads"]:
                return self._begin_upload(json.loads(request.content))
            case "POST", ["v1", "imports"]:
                return self._import(json.loads(request.content))
            case "GET", ["v1", "uploads", id_] if id_ in self.uploads:
                return httpx.Response(200, json=self._upload(id_))
            case "POST", ["v1", "uploads", id_, "complete"]:
                return self._complete(id_)
            case "POST", ["v1", ("models" | "datasets") as kind]:
                name = request.url.params["filename"]
                return httpx.Response(201, json=self._store(kind[:-1], name, request.content))
            case "GET", ["v1", ("models" | "datasets"), id_] if id_ in self.files:
                return httpx.Response(200, json=self.files[id_])
            case "DELETE", ["v1", ("models" | "datasets"), id_] if self.files.pop(id_, None):
                return httpx.Response(204)
            case "GET", ["v1", ("models" | "datasets" | "jobs") as kind]:
                return self._page(kind[:-1], request.url.params)
            case "POST", ["v1", "jobs"]:
                return self._begin_job(json.loads(request.content))
            case "GET", ["v1", "jobs", id_] if id_ in self.jobs:
                return self._job(id_, request)
            case "POST", ["v1", "jobs", id_, "cancel"] if id_ in self.jobs:
                return httpx.Response(202, json=self.change(id_, state="cancelled", done=True))
            case "GET", ["v1", "jobs", id_, "events"] if id_ in self.jobs:
                return self._stream(id_, request.headers.get("Last-Event-ID"))
            case "GET", ["v1", "jobs", id_, "report"] if id_ in self.jobs:
                return httpx.Response(200, json=self.report)
            case "GET", ["v1", "jobs", id_, "logs"] if id_ in self.jobs:
                return httpx.Response(200, text="one line\nanother \x1b[31mline\n")
            case "GET", ["v1", "jobs", id_, "artifacts"] if id_ in self.jobs:
                return httpx.Response(200, json=page(self.listed(id_)))
            case "GET", ["v1", "jobs", id_, "artifacts", name] if name in self.artifacts.get(id_, {}):
                if request.url.params.get("redirect") == "false":
                    return httpx.Response(200, content=self.artifacts[id_][name])
                return httpx.Response(302, headers={"Location": f"{STORAGE}/{id_}/{name}?signature=s"})
            case "GET", ["v1", "techniques"]:
                return httpx.Response(200, json=page([TECHNIQUE]))
            case "GET", ["v1", "usage"]:
                return httpx.Response(200, json=USAGE)
            case "GET", ["readyz"]:
                return httpx.Response(200, json={"status": "ok", "version": "9", "checks": {"redis": "ok"}})
        return problem_answer("not_found", f"nothing at {request.url.path}")

    def _storage(self, request: httpx.Request, path: list[str]) -> httpx.Response:
        assert "Authorization" not in request.headers
        if request.method == "PUT":
            assert int(request.headers["Content-Length"]) == len(request.content)
            assert "Transfer-Encoding" not in request.headers
            self.parts[path[0]][int(path[1])] = request.content
            return httpx.Response(200)
        data = self.artifacts[path[0]][path[1]]
        start = request.headers.get("Range")
        if start is None:
            return httpx.Response(200, content=data)
        return httpx.Response(206, content=data[int(start[6:-1]) :])

    def _import(self, body: dict[str, Any]) -> httpx.Response:
        name = body.get("filename") or body["url"].rpartition("/")[2]
        stored = self._store(body["kind"], name, body["url"].encode())
        made = {**stored, "object": "import", "kind": body["kind"], "resource_id": stored["id"]}
        return httpx.Response(201, json=made)

    # -- uploads

    def _begin_upload(self, body: dict[str, Any]) -> httpx.Response:
        id_ = f"upl_{len(self.uploads)}"
        self.uploads[id_] = {**body, "id": id_, "state": "open"}
        return httpx.Response(201, json=self._upload(id_))

    def _upload(self, id_: str) -> dict[str, Any]:
        upload = self.uploads[id_]
        sizes = {
            number + 1: min(self.part_size, upload["size"] - number * self.part_size)
            for number in range(-(-upload["size"] // self.part_size))
        }
        came = self.parts[id_]
        return {
            **upload,
            "object": "upload",
            "part_size": self.part_size,
            "created_at": NOW,
            "expires_at": NOW,
            "parts": [
                {
                    "number": number,
                    "offset": (number - 1) * self.part_size,
                    "size": size,
                    "url": f"{STORAGE}/{id_}/{number}?signature=s",
                }
                for number, size in sizes.items()
                if number not in came
            ],
            "received": [{"number": n, "size": len(data), "etag": "e"} for n, data in came.items()],
        }

    def _complete(self, id_: str) -> httpx.Response:
        upload = self.uploads[id_]
        if upload["state"] == "completed":
            return problem_answer("upload_completed")
        if self._upload(id_)["parts"]:
            return problem_answer("upload_incomplete")
        data = b"".join(self.parts[id_][number] for number in sorted(self.parts[id_]))
        if hashlib.sha256(data).hexdigest() != upload["sha256"]:
            return problem_answer("sha256_mismatch")
        file = self._store(upload["kind"], upload["filename"], data)
        upload.update(state="completed", resource_id=file["id"])
        return httpx.Response(201, json=file)

    def _store(self, kind: str, name: str, data: bytes) -> dict[str, Any]:
        id_ = f"{'mdl' if kind == 'model' else 'ds'}_{len(self.files)}"
        self.bodies[id_] = data
        self.files[id_] = {
            "id": id_,
            "object": kind,
            "filename": name,
            "format": "keras_zip" if kind == "model" else "npz",
            "framework": "tensorflow",
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "created_at": NOW,
        }
        return self.files[id_]

    def _page(self, kind: str, params: httpx.QueryParams) -> httpx.Response:
        source = self.jobs if kind == "job" else self.files
        found = [each for each in reversed(source.values()) if each["object"] == kind]
        start, limit = int(params.get("cursor", 0)), int(params.get("limit", 20))
        more = len(found) > start + limit
        return httpx.Response(
            200,
            json={
                "object": "list",
                "data": found[start : start + limit],
                "has_more": more,
                "next_cursor": str(start + limit) if more else None,
            },
        )

    # -- jobs

    def _begin_job(self, body: dict[str, Any]) -> httpx.Response:
        return httpx.Response(202, json=self.add_job(**body), headers={"Retry-After": "1"})

    def add_job(self, **fields: Any) -> dict[str, Any]:
        id_ = f"job_{len(self.jobs)}"
        job = {"object": "job", "model_id": "mdl_0", "spec": {}, "state": "queued", "done": False}
        self.jobs[id_] = {**job, "created_at": NOW, "version": 1, **fields, "id": id_}
        return self.jobs[id_]

    def change(self, id_: str, **fields: Any) -> dict[str, Any]:
        job = self.jobs[id_]
        job.update(fields, version=job["version"] + 1)
        return job

    def add_artifacts(self, id_: str, **files: bytes) -> None:
        self.artifacts[id_] = {name.replace("__", "."): data for name, data in files.items()}
        self.jobs[id_]["artifacts"] = self.listed(id_)

    def listed(self, id_: str) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "format": name.rpartition(".")[2],
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
            for name, data in self.artifacts.get(id_, {}).items()
        ]

    def _job(self, id_: str, request: httpx.Request) -> httpx.Response:
        job = self.jobs[id_]
        etag = f'"{job["version"]}"'
        if request.headers.get("If-None-Match") == etag:
            return httpx.Response(304, headers={"ETag": etag})
        return httpx.Response(200, json=job, headers={"ETag": etag})

    def _stream(self, id_: str, after: str | None) -> httpx.Response:
        events = list(enumerate(self.events.get(id_, []), 1))[int(after or 0) :]
        if self.jobs[id_]["done"] and not events:
            return httpx.Response(204)
        body = "".join(f"id: {number}\ndata: {json.dumps(event)}\n\n" for number, event in events)
        return httpx.Response(200, text=f": hello\n\n{body}", headers={"Content-Type": "text/event-stream"})


def _unread(answer: httpx.Response) -> httpx.Response:
    """As it comes from a socket: with the body still to be read."""
    if answer.is_stream_consumed:
        stream = httpx.ByteStream(answer.content)
        return httpx.Response(answer.status_code, headers=answer.headers, stream=stream)
    return answer


TECHNIQUE = {
    "technique": "prune",
    "title": "Pruning",
    "summary": "The smallest weights become zero",
    "frameworks": ["tensorflow"],
    "outputs": ["tflite"],
    "needs_data": "depends",
    "schema": {"type": "object"},
}


def page(data: list[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "list", "data": data, "has_more": False, "next_cursor": None}


def problem_answer(code: str, detail: str = "so it is", **headers: str) -> httpx.Response:
    body = problem(code, detail, request_id="req_1").model_dump(mode="json")
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(CODES[code].status, json=body, headers=headers)
