"""The client against the real application in process, on real Redis and real object storage."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from flask import Flask

from featherweight import _uploads, cli, errors
from featherweight._retry import Clock
from featherweight.client import Client
from featherweight.events import LogEvent, ProgressEvent, StateEvent
from featherweight.job import Artifact, Job
from service import create_app
from service.services import NAME, Services
from tasks import keys
from tasks.identifiers import new_id
from tasks.records import Claim, Outcome
from tasks.settings import Settings
from tasks.settle import Settler
from tests.clients.conftest import SPEC
from tests.clients.sample_report import REPORT

MIB = 1024 * 1024
PROJECT = "clients"


@pytest.fixture
def app(settings: Settings, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Flask:
    # S3 takes no parts below 5 MiB but for the last.
    monkeypatch.setattr(_uploads, "PART_BYTES", 5 * MIB)
    return create_app(settings.model_copy(update={"upload_part_bytes": 5 * MIB}))


@pytest.fixture
def parts(app: Flask) -> Services:
    found: Services = app.extensions[NAME]
    return found


@pytest.fixture
def connect(app: Flask, parts: Services) -> Callable[..., Client]:
    key = parts.keys.create(PROJECT)

    def connect(**options: Any) -> Client:
        options = {"api_key": key, "transport": httpx.WSGITransport(app), **options}
        return Client("http://api.test", **options)

    return connect


@pytest.fixture
def client(connect: Callable[..., Client]) -> Iterator[Client]:
    with connect() as client:
        yield client


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """A .keras file of three parts, as far as anybody but TensorFlow can tell."""
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.0.0"}')
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(range(256)) * 47_000)
    return path


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    path = tmp_path / "digits.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + bytes(100))
        archive.writestr("y.npy", b"\x93NUMPY\x01\x00" + bytes(100))
    return path


class _Worker:
    """Does a job the way the supervisor does: claim, events, artifacts, commit."""

    def __init__(self, parts: Services, job_id: str) -> None:
        self.parts = parts
        self.job_id = job_id
        claim = parts.jobs.claim(job_id, "worker-1")
        assert isinstance(claim, Claim)
        self.claim = claim

    def says(self, *events: Any) -> None:
        for event in events:
            assert self.parts.jobs.emit(self.claim, event)

    def succeeds(self, **files: bytes) -> None:
        artifacts = []
        for name, data in {**files, "report__json": json.dumps(REPORT).encode()}.items():
            name = name.replace("__", ".")
            key = keys.artifact_key(PROJECT, self.job_id, 1, name)
            self.parts.storage.put_stream(iter([data]), key, max_bytes=MIB)
            digest = hashlib.sha256(data).hexdigest()
            artifacts.append(Artifact(name=name, format="x", bytes=len(data), sha256=digest))
        assert self.parts.jobs.finalizing(self.claim)
        outcome = Outcome.succeeded(artifacts, "smaller")
        assert self.parts.jobs.commit(self.claim, outcome)


def _queued(client: Client, model_file: Path) -> Job:
    return client.compress(model_file, SPEC | {"steps": [{"technique": "prune"}]}).job


def test_file_goes_up_in_parts_and_comes_out_as_a_model(
    client: Client, parts: Services, model_file: Path
) -> None:
    seen: list[int] = []
    model = client.models.upload(model_file, on_progress=lambda sent, total: seen.append(sent))
    assert model.format == "keras_zip"
    assert model.sha256 == hashlib.sha256(model_file.read_bytes()).hexdigest()
    assert seen[-1] == model.bytes == model_file.stat().st_size
    key = parts.models.get(PROJECT, model.id).key
    assert parts.storage.digest(key) == (model.bytes, model.sha256)
    assert [each.id for each in client.models.list()] == [model.id]


def test_upload_broken_off_by_one_client_is_finished_by_another(
    connect: Callable[..., Client], model_file: Path
) -> None:
    arrived = threading.Semaphore(0)

    class Failing(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.params["partNumber"] == "2":
                assert arrived.acquire(timeout=30)
                assert arrived.acquire(timeout=30)
                return httpx.Response(400)
            answer = super().handle_request(request)
            arrived.release()
            return answer

    class Counting(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            sent.append(request.url.params["partNumber"])
            return super().handle_request(request)

    with connect(storage_transport=Failing()) as client, pytest.raises(errors.StorageError):
        client.models.upload(model_file)
    sent: list[str] = []
    with connect(storage_transport=Counting()) as client:
        client.models.upload(model_file)
    assert sent == ["2"]


def test_file_changed_while_it_is_sent_is_refused_by_the_storage_with_the_part_named(
    connect: Callable[..., Client], app: Flask, model_file: Path
) -> None:
    class Changing(httpx.WSGITransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            answer = super().handle_request(request)
            if request.url.path == "/v1/uploads":
                with model_file.open("r+b") as file:
                    file.seek(6 * MIB)
                    file.write(b"not what it was")
            return answer

    with (
        connect(transport=Changing(app)) as client,
        pytest.raises(
            errors.StorageError, match=r"part 2 of model\.keras: .*BadDigest.*may have chan"
        ) as raised,
    ):
        client.models.upload(model_file)
    assert raised.value.status == 400


def test_every_part_is_sent_with_its_digest(connect: Callable[..., Client], model_file: Path) -> None:
    class Watching(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            sent[request.url.params["partNumber"]] = request.headers["x-amz-checksum-sha256"]
            return super().handle_request(request)

    sent: dict[str, str] = {}
    with connect(storage_transport=Watching()) as client:
        client.models.upload(model_file)
    data = model_file.read_bytes()
    digests = [hashlib.sha256(data[at : at + 5 * MIB]).digest() for at in range(0, len(data), 5 * MIB)]
    assert sent == {str(n): base64.b64encode(digest).decode() for n, digest in enumerate(digests, start=1)}


def test_storage_out_of_reach_leads_through_the_api(
    connect: Callable[..., Client], model_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with connect(storage_transport=httpx.MockTransport(refuse)) as client:
        model = client.models.upload(model_file)
    assert model.sha256 == hashlib.sha256(model_file.read_bytes()).hexdigest()
    assert "through the API instead" in caplog.text


def test_file_of_no_known_type_is_refused(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "notes.keras"
    path.write_text("just words")
    with pytest.raises(errors.UnsupportedMediaType):
        client.models.upload(path)


def test_job_from_queue_to_files(
    client: Client, parts: Services, model_file: Path, data_file: Path, tmp_path: Path
) -> None:
    handle = client.compress(model_file, SPEC, dataset=data_file, name="digits", metadata={"team": "vision"})
    assert handle.state == "queued"
    assert handle.job.metadata == {"team": "vision"}
    worker = _Worker(parts, handle.id)
    worker.says(ProgressEvent(stage="finetune", fraction=0.5), LogEvent(message="halfway"))
    assert handle.refresh().job.progress.fraction == 0.5
    worker.succeeds(model__tflite=b"tflite" * 1000)
    seen: list[Any] = []
    handle.wait(timeout=30, on_event=seen.append)
    assert [event for event in seen if isinstance(event, LogEvent)] == [LogEvent(message="halfway")]
    assert isinstance(seen[-1], StateEvent)
    assert seen[-1].state == "succeeded"
    assert handle.job.verdict == "smaller"
    paths = handle.download(tmp_path / "out")
    assert sorted(path.name for path in paths) == ["model.tflite", "report.json"]
    assert (tmp_path / "out" / "model.tflite").read_bytes() == b"tflite" * 1000
    assert handle.report().outputs[0].name == "model.tflite"


def test_cancel_ends_the_wait_with_job_cancelled(client: Client, model_file: Path) -> None:
    job = _queued(client, model_file)
    assert client.jobs.cancel(job.id).state == "cancelled"
    assert client.jobs.cancel(job.id).state == "cancelled"
    with pytest.raises(errors.JobCancelled):
        client.jobs.wait(job.id, on_event=lambda event: None)


def test_wait_times_out_while_the_job_is_queued(client: Client, model_file: Path) -> None:
    job = _queued(client, model_file)
    clock = Clock()
    began = clock.now()
    with pytest.raises(errors.WaitTimeout):
        client.jobs.wait(job.id, timeout=1.5)
    assert 1.4 < clock.now() - began < 4


def test_long_poll_sees_the_end_at_once(client: Client, parts: Services, model_file: Path) -> None:
    job = _queued(client, model_file)
    timer = threading.Timer(0.7, lambda: parts.jobs.request_cancel(PROJECT, job.id))
    clock = Clock()
    began = clock.now()
    timer.start()
    with pytest.raises(errors.JobCancelled):
        client.jobs.wait(job.id, timeout=60)
    timer.join()
    assert clock.now() - began < 3


def test_same_idempotency_key_is_the_same_job(client: Client, model_file: Path) -> None:
    model = client.models.upload(model_file)
    spec = {"steps": [{"technique": "prune"}]}
    first = client.jobs.create(model_id=model.id, spec=spec, idempotency_key="once")
    assert client.jobs.create(model_id=model.id, spec=spec, idempotency_key="once").id == first.id
    with pytest.raises(errors.InvalidRequest) as raised:
        client.jobs.create(model_id=model.id, spec=spec, name="other", idempotency_key="once")
    assert raised.value.code == "idempotency_key_reused"


def test_fault_that_only_the_service_can_see_has_its_pointer(client: Client, model_file: Path) -> None:
    with pytest.raises(errors.InvalidRequest) as raised:
        client.compress(model_file, SPEC)
    assert raised.value.code == "dataset_required"
    with pytest.raises(errors.InvalidRequest) as raised:
        client.compress(model_file, SPEC, metadata={"": "x"})
    assert raised.value.errors[0].pointer.startswith("/metadata")
    assert raised.value.request_id


def test_unknown_id_wrong_key_and_foreign_id(
    client: Client, connect: Callable[..., Client], parts: Services, model_file: Path
) -> None:
    with pytest.raises(errors.NotFound):
        client.jobs.get("job_nowhere")
    with connect(api_key="fw_wrong") as stranger, pytest.raises(errors.AuthenticationError):
        stranger.jobs.list()
    job = _queued(client, model_file)
    with connect(api_key=parts.keys.create("others")) as stranger, pytest.raises(errors.NotFound):
        stranger.jobs.get(job.id)


def test_lists_page_and_filter(client: Client, model_file: Path) -> None:
    model = client.models.upload(model_file)
    spec = {"steps": [{"technique": "prune"}]}
    made = [client.jobs.create(model_id=model.id, spec=spec).id for _ in range(5)]
    client.jobs.cancel(made[0])
    listing = client.jobs.list(limit=2)
    assert [job.id for job in listing.data] == made[:-3:-1]
    assert listing.has_more
    assert [job.id for job in listing] == made[::-1]
    assert [job.id for job in client.jobs.list(state="cancelled")] == made[:1]
    assert [job.id for job in client.jobs.list(model_id="mdl_none")] == []


def test_report_and_artifacts_before_the_end(client: Client, model_file: Path, tmp_path: Path) -> None:
    job = _queued(client, model_file)
    with pytest.raises(errors.Conflict) as raised:
        client.jobs.report(job.id)
    assert raised.value.code == "job_not_done"
    assert client.jobs.artifacts(job.id) == []
    with pytest.raises(errors.Conflict):
        client.jobs.download(job.id, tmp_path / "out")
    assert isinstance(client.jobs.logs(job.id), str)


def test_techniques_health_and_removal(client: Client, data_file: Path) -> None:
    assert {technique.technique for technique in client.techniques()} >= {"prune", "finetune", "quantize"}
    assert client.health().status == "ok"
    dataset = client.datasets.upload(data_file)
    assert client.usage().stored["datasets"] == data_file.stat().st_size
    client.datasets.delete(dataset.id)
    assert client.usage().stored_bytes == 0
    with pytest.raises(errors.NotFound):
        client.datasets.get(dataset.id)


def test_command_line_end_to_end(
    connect: Callable[..., Client], parts: Services, model_file: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    def run(*argv: object) -> tuple[int, Any]:
        out = io.StringIO()
        monkeypatch.setattr("sys.stdout", out)
        code = cli.main(["--json", *map(str, argv)], connect=lambda args: connect())
        return code, json.loads(out.getvalue()) if out.getvalue() else None

    spec = tmp_path / "spec.yaml"
    spec.write_text("steps: [{technique: prune}]")
    code, job = run("compress", model_file, "--spec", spec)
    assert (code, job["state"]) == (0, "queued")
    _Worker(parts, job["id"]).succeeds(model__tflite=b"small")
    code, waited = run("jobs", "wait", job["id"], "-o", tmp_path / "out")
    assert code == 0
    assert waited["job"]["state"] == "succeeded"
    assert (tmp_path / "out" / "model.tflite").read_bytes() == b"small"
    assert run("jobs", "show", "job_nowhere") == (5, None)


def test_what_one_job_made_goes_into_the_next_by_import(client: Client, parts: Services) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("metadata.json", "{}")
    key = f"projects/{PROJECT}/jobs/job_a/a1/model.keras"
    parts.storage.put_bytes(key, out.getvalue())
    made = client.imports.create(f"s3://{parts.settings.s3_bucket}/{key}")
    assert client.models.get(made.resource_id).sha256 == hashlib.sha256(out.getvalue()).hexdigest()
    with pytest.raises(errors.PermissionDenied) as refused:
        client.imports.create("https://models.example/net.keras", kind="dataset")
    assert refused.value.problem.code == "imports_disabled"
    with pytest.raises(errors.InvalidRequest) as foreign:
        client.imports.create(f"s3://{parts.settings.s3_bucket}/projects/other/jobs/job_a/a1/model.keras")
    assert foreign.value.problem.code == "uri_not_allowed"


def test_the_inbox_is_listed_through_all_pages_and_adopted_from(client: Client, parts: Services) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("metadata.json", "{}")
    folder = new_id("key")
    for name in ("a.keras", "b/c.keras", "d.txt"):
        parts.storage.put_bytes(f"inbox/{PROJECT}/{folder}/{name}", out.getvalue())
    names = [item.name for item in client.inbox.list(f"{folder}/", limit=1)]
    assert names == [f"{folder}/a.keras", f"{folder}/b/c.keras", f"{folder}/d.txt"]
    made = client.inbox.adopt(names[1])
    assert client.models.get(made.resource_id).sha256 == hashlib.sha256(out.getvalue()).hexdigest()
    assert client.inbox.adopt(names[1]).resource_id == made.resource_id
    with pytest.raises(errors.NotFound) as missing:
        client.inbox.adopt(f"{folder}/e.keras")
    assert missing.value.problem.code == "object_not_found"
    with pytest.raises(errors.UnsupportedMediaType) as no_data:
        client.inbox.adopt(names[0], kind="dataset")
    assert no_data.value.problem.code == "unknown_file_type"


def test_the_inbox_from_the_command_line(
    connect: Callable[..., Client], parts: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*argv: str) -> tuple[int, Any]:
        out = io.StringIO()
        monkeypatch.setattr("sys.stdout", out)
        code = cli.main(["--json", *argv], connect=lambda args: connect())
        return code, json.loads(out.getvalue()) if out.getvalue() else None

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("x.npy", b"")
    name = f"{new_id('key')}/d.npz"
    parts.storage.put_bytes(f"inbox/{PROJECT}/{name}", out.getvalue())
    code, found = run("inbox", "ls", name)
    assert (code, [item["name"] for item in found]) == (0, [name])
    code, made = run("inbox", "adopt", name, "--kind", "dataset")
    assert (code, made["kind"], made["filename"]) == (0, "dataset", "d.npz")
    assert run("inbox", "adopt", "../x") == (3, None)


def test_a_job_that_has_ended_is_removed(
    client: Client, connect: Callable[..., Client], parts: Services, model_file: Path
) -> None:
    job = client.compress(model_file, {"steps": [{"technique": "prune"}]})
    with pytest.raises(errors.Conflict) as unfinished:
        client.jobs.delete(job.id)
    assert unfinished.value.problem.code == "job_not_done"
    with pytest.raises(errors.Conflict) as needed:
        client.models.delete(job.job.model_id)
    assert needed.value.problem.code == "resource_in_use"
    job.cancel()
    Settler(parts.jobs, parts.storage).settle(parts.jobs.get(PROJECT, job.id))
    assert cli.main(["jobs", "rm", job.id], connect=lambda args: connect()) == 0
    with pytest.raises(errors.NotFound):
        client.jobs.get(job.id)
    client.models.delete(job.job.model_id)
