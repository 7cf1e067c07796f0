"""Redis or the object storage is away: every route says so soon, and works again when they are back."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from werkzeug.routing import Rule

from deploy.local.object_store import ObjectStore
from deploy.local.redis_server import RedisServer
from service import create_app
from service.keys import KeyRecord
from service.services import NAME, Services
from tasks.settings import Settings
from tests.faults.proxy import Answer, BlackHole, Cut, Fault, FaultProxy, Pass, Refuse
from tests.service.helpers import KERAS, NPZ, PROJECT, SPEC, Caller, assert_problem

# A command of Redis may take 2 s, a question to the storage two tries of 4 s each.
SOON_S = 11
_ID = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def redis_proxy(redis_server: RedisServer) -> Iterator[FaultProxy]:
    with FaultProxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def s3_proxy(object_store: ObjectStore) -> Iterator[FaultProxy]:
    with FaultProxy(object_store.ports.s3) as proxy:
        yield proxy


@pytest.fixture
def app(settings: Settings, redis_client: object, redis_proxy: FaultProxy, s3_proxy: FaultProxy) -> Flask:
    """The application with a proxy between it and each of its servers."""
    host, _, _ = settings.redis_url.rpartition(":")
    return create_app(
        settings.model_copy(
            update={
                "redis_url": f"{host}:{redis_proxy.port}/0",
                "s3_endpoint_url": s3_proxy.url,
                "imports": True,
                "working_requests": 8,
            }
        )
    )


class _Remembered:
    """Who is asked who the caller is, and knows without Redis: what is behind the door can be tried."""

    def __init__(self, key: KeyRecord) -> None:
        self._key = key

    def verify(self, _: str) -> KeyRecord:
        return self._key


@pytest.fixture
def inside(app: Flask) -> Caller:
    """A caller whose key was checked a moment before the outage."""
    parts: Services = app.extensions[NAME]
    key = parts.keys.create(PROJECT, scope="admin")
    known = _Remembered(parts.keys.verify(key))
    app.extensions[NAME] = dataclasses.replace(parts, keys=known, throttle=_Open())  # type: ignore[arg-type]
    return Caller(app, key)


class _Open:
    def admit(self, _: str) -> None:
        pass


def _requests(app: Flask) -> list[tuple[str, str]]:
    """Method and path of every route that needs a key, in the order of the map."""
    found = []
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/v1/"):
            found += [(method, _path(rule)) for method in sorted(rule.methods or ()) if method not in _IDLE]
    return sorted(found)


_IDLE = {"OPTIONS", "HEAD"}
_NOT_UNDERSTOOD = {400, 415, 422}
_KINDS = {"model_id": "mdl", "dataset_id": "ds", "job_id": "job", "upload_id": "upl"}


def _path(rule: Rule) -> str:
    path = rule.rule
    for name in rule.arguments:
        value = f"{_KINDS[name]}_{_ID}" if name in _KINDS else "name"
        path = path.replace(f"<{name}>", value)
    assert "<" not in path, path
    return path


_BODIES = {
    "/v1/jobs": {"model_id": f"mdl_{_ID}", "spec": SPEC},
    "/v1/plans": {"model_id": f"mdl_{_ID}", "spec": SPEC},
    "/v1/batches": {"items": [{"custom_id": "one", "model_id": f"mdl_{_ID}", "spec": SPEC}]},
    "/v1/schedules": {
        "trigger": {"type": "interval", "seconds": 3600},
        "job": {"model_id": f"mdl_{_ID}", "spec": SPEC},
    },
    "/v1/webhook_endpoints": {"url": "https://1.1.1.1/", "events": ["*"]},
    "/v1/uploads": {"kind": "model", "filename": "m.keras", "size": 100, "sha256": "0" * 64},
}
_FILES = {"/v1/models": KERAS, "/v1/datasets": NPZ}


def _options(method: str, path: str) -> dict[str, object]:
    if method != "POST":
        return {}
    if path in _FILES:
        return {"data": _FILES[path], "content_type": "application/octet-stream"}
    return {"json": _BODIES[path]} if path in _BODIES else {}


# Below these nobody is asked.
_KNOWN_BY_ITSELF = ("/v1/techniques", "/v1/spec/schema")


@pytest.mark.parametrize("fault", [Refuse(), BlackHole()], ids=["refused", "silent"])
def test_every_route_says_soon_that_redis_is_away(
    app: Flask, inside: Caller, redis_proxy: FaultProxy, fault: Fault
) -> None:
    requests = _requests(app)
    assert len(requests) > 25
    away = 0
    with redis_proxy.fault(fault):
        began = time.monotonic()
        for method, path in requests:
            asked = time.monotonic()
            answer = inside(method, path, **_options(method, path))
            assert time.monotonic() - asked < SOON_S, (method, path)
            if path.startswith(_KNOWN_BY_ITSELF) or (method, path) == ("GET", "/v1/inbox"):
                assert answer.status_code == 200
            elif answer.status_code in _NOT_UNDERSTOOD:
                # Of a body that is to be there nothing is said here: refused before anybody was asked.
                assert method in ("POST", "PATCH", "PUT")
                assert path not in {*_BODIES, *_FILES}
            else:
                assert_problem(answer, "queue_unavailable")
                assert int(answer.headers["Retry-After"]) >= 1
                away += 1
        assert away > 20
        # One waits in vain, and spares the others that.
        assert time.monotonic() - began < SOON_S + len(requests)
    time.sleep(1.1)
    assert inside.get("/v1/jobs").status_code == 200


@pytest.mark.parametrize("fault", [Refuse(), BlackHole()], ids=["refused", "silent"])
def test_whoever_knocks_while_redis_is_away_is_told_so(
    app: Flask, caller: Caller, redis_proxy: FaultProxy, fault: Fault
) -> None:
    with redis_proxy.fault(fault):
        assert_problem(caller.get("/v1/jobs"), "queue_unavailable")
        assert caller.get("/healthz").status_code == 200
        ready = caller.get("/readyz")
        assert (ready.status_code, ready.json["checks"]["redis"]) == (503, "unavailable")
        assert caller.get("/metrics").status_code == 200
    time.sleep(1.1)
    assert caller.get("/readyz").json["checks"]["redis"] == "ok"
    assert caller.get("/v1/jobs").status_code == 200


@pytest.mark.parametrize(
    "fault",
    [Refuse(), Answer(500), BlackHole(), Cut(after_bytes=100)],
    ids=["refused", "500", "silent", "cut"],
)
def test_every_route_says_soon_that_storage_is_away_or_does_without(
    app: Flask, caller: Caller, s3_proxy: FaultProxy, fault: Fault
) -> None:
    model_id, dataset_id, unused = caller.model(), caller.dataset(), caller.dataset()
    upload = caller.post("/v1/uploads", json=_BODIES["/v1/uploads"], headers={"Idempotency-Key": "kept"}).json
    job_id = caller.job(model_id=model_id, dataset_id=dataset_id)
    body = {"model_id": model_id, "dataset_id": dataset_id, "spec": SPEC}
    asks: dict[str, Callable[[], object]] = {
        "send a model": lambda: caller.post(
            "/v1/models", data=KERAS, content_type="application/octet-stream"
        ),
        "begin an upload": lambda: caller.post("/v1/uploads", json=_BODIES["/v1/uploads"]),
        "look at an upload": lambda: caller.get(f"/v1/uploads/{upload['id']}"),
        "complete an upload": lambda: caller.post(f"/v1/uploads/{upload['id']}/complete"),
        "give an upload up": lambda: caller("DELETE", f"/v1/uploads/{upload['id']}"),
        "submit a job": lambda: caller.post("/v1/jobs", json=body),
    }
    with s3_proxy.fault(fault):
        for what, ask in asks.items():
            asked = time.monotonic()
            answer = ask()
            assert time.monotonic() - asked < SOON_S, what
            assert_problem(answer, "storage_unavailable")
            assert int(answer.headers["Retry-After"]) >= 1  # type: ignore[attr-defined]
        # What needs no storage goes on, and bytes go when they can.
        assert caller("DELETE", f"/v1/datasets/{unused}").status_code == 202
        assert caller.get(f"/v1/jobs/{job_id}").json["state"] == "queued"
        assert caller.get(f"/v1/models/{model_id}").status_code == 200
    time.sleep(1.1)
    assert caller.post("/v1/jobs", json=body).status_code == 202
    assert caller("DELETE", f"/v1/uploads/{upload['id']}").status_code < 300


def test_nothing_is_left_of_a_file_that_broke_off_on_its_way_to_storage(
    app: Flask, caller: Caller, s3_proxy: FaultProxy, object_store: ObjectStore
) -> None:
    s3 = object_store.client()
    before = _stored(s3, object_store)
    big = NPZ + bytes(20 * 1024 * 1024)
    send = {"data": big, "content_type": "application/octet-stream", "headers": {"Idempotency-Key": "again"}}
    with s3_proxy.fault(Cut(after_bytes=6 * 1024 * 1024)):
        assert_problem(caller.post("/v1/datasets?filename=d.npz", **send), "storage_unavailable")
    assert s3_proxy.seen["Cut"] >= 1
    assert _stored(s3, object_store) == before
    again = caller.post("/v1/datasets?filename=d.npz", **send)
    assert again.status_code == 201
    assert caller.post("/v1/datasets?filename=d.npz", **send).json["id"] == again.json["id"]
    s3.close()


def _stored(s3: object, store: ObjectStore) -> tuple[set[str], int]:
    """The keys under which something lies, and how many uploads are under way."""
    objects = s3.list_objects_v2(Bucket=store.bucket, Prefix=f"models/{PROJECT}/")  # type: ignore[attr-defined]
    sets = s3.list_objects_v2(Bucket=store.bucket, Prefix=f"datasets/{PROJECT}/")  # type: ignore[attr-defined]
    uploads = s3.list_multipart_uploads(Bucket=store.bucket)  # type: ignore[attr-defined]
    keys = {item["Key"] for page in (objects, sets) for item in page.get("Contents", [])}
    return keys, len(uploads.get("Uploads", []))


def test_a_long_poll_and_a_stream_end_soon_when_redis_falls_silent(
    app: Flask, caller: Caller, redis_proxy: FaultProxy
) -> None:
    job_id = caller.job()
    ended: dict[str, object] = {}

    def poll() -> None:
        ended["poll"] = caller.get(f"/v1/jobs/{job_id}?wait=60")

    def stream() -> None:
        ended["stream"] = caller.get(f"/v1/jobs/{job_id}/events").data

    threads = [threading.Thread(target=poll), threading.Thread(target=stream)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    with redis_proxy.fault(BlackHole()):
        for thread in threads:
            thread.join(5 + SOON_S)
        assert_problem(ended["poll"], "queue_unavailable")
        assert b"event: state" in ended["stream"]  # type: ignore[operator]
    redis_proxy.set(Pass())


def test_more_than_can_be_worked_on_are_told_so_and_the_living_answer(
    app: Flask, caller: Caller, inside: Caller, redis_proxy: FaultProxy
) -> None:
    """Eight at once, and four times as many come while Redis is silent."""
    codes: list[str] = []

    def ask() -> None:
        answer = caller.get("/v1/jobs")
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) >= 1
        codes.append(answer.json["code"])

    parts: Services = app.extensions[NAME]
    for _ in range(8):
        assert parts.working.take()
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    assert caller.get("/healthz").status_code == 200
    assert caller.get("/readyz").status_code in (200, 503)
    assert time.monotonic() - began < 2
    for thread in threads:
        thread.join(10)
    assert codes == ["overloaded"] * 8
    for _ in range(8):
        parts.working.give_back()
    assert caller.get("/v1/jobs").status_code == 200
