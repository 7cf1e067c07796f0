"""The gate where files arrive and where they are loaded: refused ones leave nothing, good ones pass once."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import redis

from service.services import Services
from tasks import gate, leftovers
from tasks.recordstore import RecordStore
from tasks.storage import Storage, StorageUnavailable
from tests.gate.data_files import FILES as DATA
from tests.gate.keras_files import FILES as KERAS
from tests.gate.other_models import tflite
from tests.service.conftest import app, caller, parts, with_settings  # noqa: F401 - fixtures
from tests.service.helpers import PROJECT, Caller, assert_problem
from tests.service.models import dense_model
from tests.tasks.conftest import Bench, bench, queue, runners, store  # noqa: F401 - fixtures

OCTETS = "application/octet-stream"
HERE = {"max_gate_bytes": 1 << 20}


@contextmanager
def nothing_is_kept(storage: Storage) -> Iterator[None]:
    """Of a request, in storage, which all tests of a session share."""
    prefix = f"projects/{PROJECT}/"
    before = set(storage.list_keys(prefix))
    yield
    assert set(storage.list_keys(prefix)) == before


@pytest.mark.parametrize(
    ("path", "row"),
    [
        ("/v1/models", KERAS["tk_lambda_h5"]),
        ("/v1/models", KERAS["k3_zipbomb"]),
        ("/v1/models", ("bad_tflite", lambda *_: b"\x18\0\0\0TFL3")),
        ("/v1/datasets", DATA["tar_symlink"]),
        ("/v1/datasets", DATA["csv_ragged"]),
    ],
    ids=["lambda", "bomb", "tflite", "symlink", "ragged"],
)
def test_a_refused_upload_is_answered_and_leaves_nothing(
    with_settings: Callable[..., Caller],  # noqa: F811
    parts: Services,  # noqa: F811
    storage: Storage,
    path: str,
    row: tuple[str, Callable[..., bytes]],
    tmp_path: Path,
) -> None:
    caller = with_settings(**HERE)  # noqa: F811
    code, make = row
    content = make(tmp_path / "canary", tmp_path)
    with nothing_is_kept(storage):
        answer = caller.post(path, data=content, content_type=OCTETS)
    problem = assert_problem(answer, code)
    assert problem["errors"][0]["pointer"].startswith(f"/{path.removeprefix('/v1/')[:-1]}")
    assert not parts.models.list(PROJECT)[0]
    assert not parts.datasets.list(PROJECT)[0]


def test_a_judged_file_says_by_which_gate(
    with_settings: Callable[..., Caller],  # noqa: F811
    parts: Services,  # noqa: F811
) -> None:
    caller = with_settings(**HERE)  # noqa: F811
    assert parts.models.get(PROJECT, caller.model(dense_model())).gated == gate.VERSION
    large = dense_model(units=8192)
    assert len(large) > HERE["max_gate_bytes"]
    assert parts.models.get(PROJECT, caller.model(large)).gated is None


def test_a_refused_upload_in_parts_is_given_up(
    with_settings: Callable[..., Caller],  # noqa: F811
    storage: Storage,
    tmp_path: Path,
) -> None:
    caller = with_settings(**HERE)  # noqa: F811
    content = KERAS["tk_lambda_h5"][1](tmp_path / "canary", tmp_path)
    body = {
        "kind": "model",
        "filename": "m.h5",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    with nothing_is_kept(storage):
        upload = caller.post("/v1/uploads", json=body).json
        httpx.put(upload["parts"][0]["url"], content=content).raise_for_status()
        assert_problem(caller.post(f"/v1/uploads/{upload['id']}/complete"), "layer_not_allowed")
    assert caller.get(f"/v1/uploads/{upload['id']}").json["state"] == "aborted"


def test_a_full_gate_asks_to_try_again(
    with_settings: Callable[..., Caller],  # noqa: F811
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gate, "_AT_ONCE", 0)
    monkeypatch.setattr(gate, "_PATIENCE_S", 0.01)
    caller = with_settings(**HERE)  # noqa: F811
    with nothing_is_kept(storage):
        answer = caller.post("/v1/models", data=tflite(), content_type=OCTETS)
    assert assert_problem(answer, "overloaded")["retryable"]


def test_a_machine_that_cannot_judge_asks_to_try_again(
    with_settings: Callable[..., Caller],  # noqa: F811
    parts: Services,  # noqa: F811
    storage: Storage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cannot_start = str(tmp_path / "no-python")
    cannot_confine = tmp_path / "python"
    cannot_confine.write_text("#!/bin/sh\necho no Landlock >&2\nexit 78\n")
    cannot_confine.chmod(0o755)
    caller = with_settings(**HERE)  # noqa: F811
    for python in (cannot_start, str(cannot_confine)):
        with monkeypatch.context() as patch, nothing_is_kept(storage):
            patch.setattr(sys, "executable", python)
            answer = caller.post("/v1/models", data=tflite(), content_type=OCTETS)
        problem = assert_problem(answer, "overloaded")
        assert int(answer.headers["Retry-After"]) >= 10
        assert "Landlock" not in problem["detail"]
    assert not parts.models.list(PROJECT)[0]
    assert caller.get("/v1/usage").json["stored_bytes"] == 0


def test_a_full_disk_asks_to_try_again(
    with_settings: Callable[..., Caller],  # noqa: F811
    storage: Storage,
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_bytes(b"where the scratch folder should be")
    caller = with_settings(**HERE, scratch_dir=tmp_path / "file")  # noqa: F811
    with nothing_is_kept(storage):
        assert_problem(caller.post("/v1/models", data=tflite(), content_type=OCTETS), "overloaded")


def test_storage_that_goes_away_while_a_file_is_judged_keeps_nothing_once_it_is_back(
    with_settings: Callable[..., Caller],  # noqa: F811
    parts: Services,  # noqa: F811
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(*_: object, **__: object) -> None:
        raise StorageUnavailable("away")

    monkeypatch.setattr(leftovers, "_REST_S", 0.0)
    caller = with_settings(**HERE)  # noqa: F811
    with nothing_is_kept(storage):
        with monkeypatch.context() as patch:
            patch.setattr(Storage, "get_file", away)
            patch.setattr(Storage, "delete", away)
            answer = caller.post("/v1/models", data=tflite(), content_type=OCTETS)
            assert_problem(answer, "storage_unavailable")
        assert not parts.models.list(PROJECT)[0]
        # Whoever stores something next takes back what could not be then.
        kept = caller.model(tflite())
        assert caller("DELETE", f"/v1/models/{kept}").status_code == 204


@pytest.mark.parametrize("fault", ["record", "redis"])
def test_a_record_is_made_whole_or_not_at_all(
    fault: str,
    with_settings: Callable[..., Caller],  # noqa: F811
    parts: Services,  # noqa: F811
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put = RecordStore.put

    def unavailable(*_: object, **__: object) -> None:
        raise StorageUnavailable("away")

    def lost_answer(records: RecordStore[object], project: str, record: object, **options: bool) -> bool:
        put(records, project, record, **options)  # type: ignore[arg-type, type-var]
        raise redis.ConnectionError("away")

    caller = with_settings()  # noqa: F811
    with monkeypatch.context() as patch, nothing_is_kept(storage):
        if fault == "record":
            patch.setattr(Storage, "put_json", unavailable)
        else:
            patch.setattr(RecordStore, "put", lost_answer)
        answer = caller.post("/v1/models", data=tflite(), content_type=OCTETS)
    assert_problem(answer, "storage_unavailable" if fault == "record" else "queue_unavailable")
    assert not parts.models.list(PROJECT)[0]
    assert caller.get("/v1/usage").json["stored_bytes"] == 0


def test_an_upload_in_parts_waits_for_a_machine_that_can_judge(
    with_settings: Callable[..., Caller],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caller, content = with_settings(**HERE), tflite()  # noqa: F811
    body = {
        "kind": "model",
        "filename": "m.tflite",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    upload = caller.post("/v1/uploads", json=body).json
    httpx.put(upload["parts"][0]["url"], content=content).raise_for_status()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(tmp_path / "no-python"))
        assert_problem(caller.post(f"/v1/uploads/{upload['id']}/complete"), "overloaded")
    done = caller.post(f"/v1/uploads/{upload['id']}/complete")
    assert (done.status_code, done.json["state"]) == (200, "completed")


def test_the_worker_judges_what_nobody_has(bench: Bench, tmp_path: Path) -> None:  # noqa: F811
    content = KERAS["tk_lambda_h5"][1](tmp_path / "canary", tmp_path)
    job = bench.submit(data=content, gated=None)
    supervisor = bench.supervisor("behaves")
    supervisor.run(job.id)
    ended = bench.store.get(job.project, job.id)
    assert ended.state == "failed"
    assert ended.error is not None
    assert (ended.error.code, ended.error.stage) == ("layer_not_allowed", "load")
    good = bench.submit(data=dense_model(), gated=None)
    supervisor.run(good.id)
    ended = bench.store.get(good.project, good.id)
    assert ended.error is None, ended.error
