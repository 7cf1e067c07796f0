"""``client.batches`` and ``featherweight batch`` against the real application in process."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from featherweight import BatchFailed, BatchWaitTimeout, Conflict, InvalidManifest, InvalidSpec, cli
from featherweight.cli.exit_codes import CANCELLED, FAILED, OK, PARTIAL
from featherweight.client import Client
from featherweight.manifest import load_manifest
from featherweight.problem import problem
from service import create_app
from service.services import NAME, Services
from tasks.records import Outcome
from tasks.settings import Settings
from tasks.settle import Settler

PROJECT = "clients"
PRUNE = {"steps": [{"technique": "prune"}]}


class Desk:
    """A client, the service it talks to, and a worker that ends jobs without running anything."""

    def __init__(self, settings: Settings) -> None:
        self.app = create_app(settings)
        self.parts: Services = self.app.extensions[NAME]
        self._key = self.parts.keys.create(PROJECT)
        self.client = self.connect()

    def connect(self, *_: Any) -> Client:
        return Client("http://api.test", api_key=self._key, transport=httpx.WSGITransport(self.app))

    def work(self, fails: Callable[[str], bool] = lambda item: False) -> list[str]:
        parts = self.parts
        settler = Settler(parts.jobs, parts.storage, (parts.batches,))
        parts.batches.work()
        ran = []
        while queued := parts.jobs.list(PROJECT, state="queued", limit=1)[0]:
            claim = parts.jobs.claim(queued[0].id, "worker")
            assert claim is not None
            item = (claim.job.origin.item if claim.job.origin else None) or ""
            parts.jobs.finalizing(claim)
            bad = Outcome.failed(problem("bad_model", "it is"))
            parts.jobs.commit(claim, bad if fails(item) else Outcome.succeeded((), "smaller"))
            settler.settle(parts.jobs.get(PROJECT, claim.job_id))
            ran.append(item)
        parts.batches.work()
        return ran

    def run(self, *arguments: str) -> int:
        return cli.main(["--json", "batch", *arguments], connect=self.connect)


@pytest.fixture
def desk(settings: Settings, redis_client: redis.Redis) -> Iterator[Desk]:
    desk = Desk(settings)
    with desk.client:
        yield desk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, size in (("a", 10), ("b", 20), ("copy-of-a", 10)):
        with zipfile.ZipFile(tmp_path / f"{name}.keras", "w") as archive:
            archive.writestr(zipfile.ZipInfo("metadata.json"), b"\0" * size)
    (tmp_path / "pruned.yaml").write_text("steps: [{technique: prune}]")
    return tmp_path


def manifest(folder: Path, /, **fields: Any) -> Path:
    path = folder / "manifest.yaml"
    path.write_text(json.dumps(fields))
    return path


def test_a_manifest_uploads_each_content_once(desk: Desk, folder: Path) -> None:
    path = manifest(
        folder,
        name="nightly",
        models=["*.keras"],
        specs={"pruned": "pruned.yaml"},
        items=[{"custom_id": "extra", "model": "b.keras", "spec": "pruned", "metadata": {"x": "1"}}],
        job_metadata={"team": "vision"},
        max_concurrent=3,
        on_failure="continue",
    )
    batch = desk.client.batches.run(path)
    assert (batch.name, batch.max_concurrent, batch.counts.total) == ("nightly", 3, 4)
    items = list(desk.client.batches.items(batch.id, limit=2))
    assert [item.custom_id for item in items] == ["a/pruned", "b/pruned", "copy-of-a/pruned", "extra"]
    assert items[0].model_id == items[2].model_id != items[1].model_id
    assert len(list(desk.client.models.list())) == 2
    assert items[3].metadata == {"team": "vision", "x": "1"}
    # Again, by another client: what is stored is found by its sha256.
    with desk.connect() as other:
        other.batches.run(path)
    assert len(list(desk.client.models.list())) == 2


def test_a_large_manifest_goes_as_an_input_file(desk: Desk, folder: Path) -> None:
    specs = {f"seed {seed}": {**PRUNE, "seed": seed} for seed in range(201)}
    batch = desk.client.batches.run({"models": [str(folder / "a.keras")], "specs": specs})
    assert batch.source.type == "file"
    (file,) = desk.client.batches.files.list()
    assert file.id == batch.source.input_file_id
    desk.work()
    ended = desk.client.batches.wait(batch.id, timeout=5)
    assert (ended.state, ended.outcome, ended.counts.succeeded) == ("completed", "succeeded", 201)
    desk.client.batches.files.delete(file.id)


def test_results_and_errors_are_read_as_items(desk: Desk, folder: Path) -> None:
    model = desk.client.models.upload(folder / "a.keras")
    specs = {name: {**PRUNE, "seed": seed} for seed, name in enumerate(("x", "y", "z"))}
    batch = desk.client.batches.create(models=[model.id], specs=specs)
    with pytest.raises(Conflict):
        list(desk.client.batches.results(batch.id))
    with pytest.raises(BatchWaitTimeout):
        desk.client.batches.wait(batch.id, timeout=0)
    desk.work(lambda item: item.endswith("/y"))
    seen: list[Any] = []
    ended = desk.client.batches.wait(batch.id, on_change=seen.append)
    assert ended.outcome == "partial"
    assert seen[-1] == ended
    assert [item.index for item in desk.client.batches.results(batch.id)] == [0, 2]
    (error,) = desk.client.batches.errors(batch.id)
    assert error.error is not None
    assert error.error.code == "bad_model"
    assert [each.id for each in desk.client.batches.list()] == [batch.id]
    desk.client.batches.delete(batch.id)
    assert list(desk.client.batches.list()) == []


def test_waiting_for_a_batch_that_fails_raises(desk: Desk, folder: Path) -> None:
    model = desk.client.models.upload(folder / "a.keras")
    item = {"custom_id": "only", "model_id": model.id, "spec": PRUNE}
    batch = desk.client.batches.create(items=[item], metadata={"a": "b"}, limits={"max_total_s": 60})
    desk.work(lambda _: True)
    with pytest.raises(BatchFailed, match=r"0 of 1 items succeeded.*all_items_failed"):
        desk.client.batches.wait(batch.id)


@pytest.mark.parametrize(
    ("fails", "code"),
    [("none", OK), ("/two", PARTIAL), ("/", FAILED)],
    ids=["all succeed", "some", "none"],
)
def test_the_exit_code_tells_of_partial_failure(
    desk: Desk, folder: Path, capsys: pytest.CaptureFixture[str], fails: str, code: int
) -> None:
    specs = {"one": PRUNE, "two": {**PRUNE, "seed": 2}}
    assert desk.run("run", str(manifest(folder, models=["a.keras"], specs=specs))) == OK
    batch = json.loads(capsys.readouterr().out)
    desk.work(lambda item: fails in item)
    assert desk.run("wait", batch["id"]) == code
    told = json.loads(capsys.readouterr().out)
    assert [item["custom_id"] for item in told["items"]] == ["a/one", "a/two"]
    assert desk.run("results", batch["id"], "--jsonl") == code
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert cli.main(["batch", "results", batch["id"]], connect=desk.connect) == code
    table = capsys.readouterr().out
    assert "a/one" in table
    assert f"{batch['id']}: {'failed' if code == FAILED else 'completed'}" in table
    for arguments in (["list"], ["show", batch["id"]], ["items", batch["id"]], ["rm", batch["id"]]):
        assert desk.run(*arguments) == OK


def test_a_cancelled_batch_has_an_exit_code_of_its_own(
    desk: Desk, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.run("run", str(manifest(folder, models=["a.keras"], specs={"one": PRUNE})))
    batch = json.loads(capsys.readouterr().out)
    assert desk.run("cancel", batch["id"]) == OK
    desk.parts.batches.work()
    assert desk.run("wait", batch["id"], "--timeout", "5") == CANCELLED


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "no items"),
        ({"models": ["a.keras"]}, "need specs"),
        ({"models": ["*.none"], "specs": {"a": PRUNE}}, "no file matches"),
        ({"modells": ["a.keras"]}, "/modells"),
        ({"folder": "/"}, "/folder"),
        ({"items": [{"custom_id": "a", "model": "a.keras"}]}, "which spec"),
        ({"items": 2 * [{"custom_id": "a", "model": "a.keras", "spec": PRUNE}]}, "two items"),
    ],
    ids=["empty", "no-specs", "no-match", "misspelt", "folder", "which", "twice"],
)
def test_a_manifest_that_is_not_valid_says_why(folder: Path, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidManifest, match=says):
        load_manifest(manifest(folder, **fields)).planned()


def test_a_spec_of_a_manifest_that_is_not_valid_is_named(folder: Path) -> None:
    (folder / "bad.yaml").write_text("steps: [{technique: prun}]")
    found = load_manifest(manifest(folder, models=["a.keras"], specs={"bad": "bad.yaml"}))
    with pytest.raises(InvalidSpec, match=r"bad\.yaml"):
        found.planned()
    (folder / "manifest.yaml").write_text("models: [")
    with pytest.raises(InvalidManifest):
        load_manifest(folder / "manifest.yaml")
