"""Batches on real Redis and storage: what is begun, what is computed once, how they end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from featherweight.batch import BatchItem, BatchRequest, BatchState
from featherweight.job import Artifact
from featherweight.problem import problem
from tasks import keys
from tasks.batches import files as batch_files
from tasks.batches.engine import Batches
from tasks.batches.identity import installed_toolchain
from tasks.batches.records import BatchRecord, job_id_of
from tasks.identifiers import new_id
from tasks.queue import Queue
from tasks.records import Claim, JobRecord, ModelRecord, Outcome
from tasks.recordstore import NotFound, RecordStore
from tasks.settings import Settings
from tasks.settle import Settler
from tasks.storage import Storage
from tasks.store import JobStore
from tests.tasks.conftest import PROJECT, Bench

SPEC = {"steps": [{"technique": "prune"}]}


class Told:
    """Notices as whoever is told of them sees them."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []
        self.data: list[dict[str, Any]] = []

    def tell(self, project: str, type: str, subject: str, data: dict[str, Any]) -> None:
        self.events.append((project, type, subject))
        self.data.append(data)


class Shop:
    """Batches, and a worker that ends jobs without running anything."""

    def __init__(
        self, settings: Settings, client: redis.Redis, storage: Storage, store: JobStore, queue: Queue
    ) -> None:
        self.settings = settings
        self.client = client
        self.storage = storage
        self.jobs = store
        self.told = Told()
        self.batches = Batches.of(settings, client, storage, queue, self.told)
        self.settler = Settler(store, storage, (self.batches,))
        self.ran: list[str] = []

    def model(self, content: str = "a model", *, project: str = PROJECT) -> str:
        model_id = new_id("model")
        record = ModelRecord(
            id=model_id,
            filename="m.keras",
            format="keras_zip",
            framework="tensorflow",
            bytes=len(content),
            sha256=hashlib.sha256(content.encode()).hexdigest(),
            created_at=datetime.now(UTC),
            project=project,
            key=keys.model_key(project, model_id),
        )
        RecordStore(self.client, "model", ModelRecord).put(project, record)
        return model_id

    def create(self, *, project: str = PROJECT, **request: Any) -> BatchRecord:
        wanted = BatchRequest.model_validate(request)
        return self.batches.create(project, new_id("batch"), wanted, request_id=None)

    def of_items(self, count: int, **options: Any) -> BatchRecord:
        """A batch of different items, known to workers."""
        items = [
            {"custom_id": f"item-{number}", "model_id": self.model(f"model {number}"), "spec": SPEC}
            for number in range(count)
        ]
        return self.create(items=items, **options)

    def work(self, end: Callable[[JobRecord], Outcome | None] = lambda job: None) -> int:
        """Run one queued job of each attempt until none is queued; how many. `end` may say how one ends."""
        count = 0
        while job := self.claim():
            self.end(job, end(job.job))
            count += 1
        return count

    def claim(self) -> Claim | None:
        queued, _ = self.jobs.list(PROJECT, state="queued", limit=1)
        return self.jobs.claim(queued[0].id, "worker") if queued else None

    def end(self, claim: Claim, outcome: Outcome | None = None) -> None:
        self.ran.append(claim.job_id)
        self.jobs.finalizing(claim)
        self.jobs.commit(claim, outcome or self.success(claim))
        self.settler.settle(self.jobs.get(PROJECT, claim.job_id))

    def success(self, claim: Claim) -> Outcome:
        """With a report like those of the engine."""
        report = json.dumps(self.report(claim.job)).encode()
        self.storage.put_bytes(keys.report_key(PROJECT, claim.job_id, claim.attempt), report)
        digest = hashlib.sha256(report).hexdigest()
        made = [Artifact(name="report.json", format="json", bytes=len(report), sha256=digest)]
        return Outcome.succeeded(made, "smaller")

    def report(self, job: JobRecord) -> dict[str, Any]:
        model = RecordStore(self.client, "model", ModelRecord).get(PROJECT, job.model_id)
        variant = {"name": "m", "format": "keras", "bytes": 100, "gzip_bytes": 90, "sha256": "0" * 64}
        metric = {"metric": "accuracy", "value": 0.9, "low": 0.8, "high": 1, "n": 10, "method": "wilson"}
        return {
            "created_at": "2026-01-01T00:00:00Z",
            "verdict": "smaller",
            "spec": job.spec,
            "seed": 0,
            "inputs": [{"role": "model", "name": "m", "bytes": model.bytes, "sha256": model.sha256}],
            "files": [],
            "inferred": [],
            "steps": [],
            "layers": [],
            "original": {**variant, "accuracy": metric},
            "outputs": [{**variant, "name": "model.tflite", "format": "tflite", "bytes": 40}],
            "warnings": [],
            "versions": installed_toolchain(),
            "host": {"cpu": "any", "cores": 1, "memory_bytes": 1, "platform": "Linux"},
            "seconds": 1.0,
        }

    def see(self, batch: BatchRecord) -> BatchRecord:
        return self.batches.store.get(batch.project, batch.id)

    def advance(self, batch: BatchRecord) -> BatchRecord:
        self.batches.advance(batch.id)
        return self.see(batch)

    def lines(self, batch: BatchRecord, name: str) -> list[BatchItem]:
        stored = b"".join(self.batches.files(batch).stream(name))
        return [BatchItem.model_validate_json(line) for line in stored.splitlines()]


@pytest.fixture
def shop(
    settings: Settings, redis_client: redis.Redis, storage: Storage, store: JobStore, queue: Queue
) -> Shop:
    shop = Shop(settings, redis_client, storage, store, queue)
    shop.batches.earlier.announce_toolchain(installed_toolchain())
    return shop


def failed(_: JobRecord) -> Outcome:
    return Outcome.failed(problem("bad_model", "the file is damaged"))


def test_a_batch_is_read_run_and_ended_with_its_results_in_order(shop: Shop) -> None:
    batch = shop.of_items(7, max_concurrent=3)
    assert batch.state == "validating"
    assert shop.advance(batch).state == "in_progress"
    assert shop.work(lambda job: failed(job) if job.origin.item == "item-4" else None) == 7
    ended = shop.see(batch)
    assert (ended.state, ended.outcome) == ("completed", "partial")
    assert (ended.counts.total, ended.counts.succeeded, ended.counts.failed) == (7, 6, 1)
    results, errors = shop.lines(batch, "results"), shop.lines(batch, "errors")
    assert [item.custom_id for item in results] == [f"item-{n}" for n in (0, 1, 2, 3, 5, 6)]
    assert [item.custom_id for item in errors] == ["item-4"]
    assert errors[0].error is not None
    assert errors[0].error.code == "bad_model"
    first = results[0]
    assert first.job_id == job_id_of(batch.id, "item-0")
    assert first.summary is not None
    assert (first.summary.metric, first.summary.original.accuracy) == ("accuracy", 0.9)
    assert first.summary.outputs[0].bytes == 40
    assert first.artifacts[0].name == "report.json"
    assert ended.results is not None
    assert (ended.results.lines, ended.results.bytes) == (
        6,
        len(b"".join(shop.batches.files(batch).stream("results"))),
    )
    assert shop.told.events == [(PROJECT, "batch.completed", batch.id)]
    assert shop.told.data[0]["counts"]["failed"] == 1
    # Nothing but the record is left in Redis, and nobody looks after it any more.
    for part in ("items", "ended", "active", "pages", "ids", "same", "leaders"):
        assert not shop.client.exists(f"fw:batch:{batch.id}:{part}"), part
    assert shop.client.zscore("fw:batches-due", batch.id) is None
