"""Batches on real Redis and storage: what is begun, what is computed once, how they end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from featherweight.batch import BatchItem, BatchRequest
from featherweight.job import Artifact
from featherweight.problem import problem
from tasks import keys
from tasks.batches.engine import Batches
from tasks.batches.identity import installed_toolchain
from tasks.batches.rebuild import rebuild_batches
from tasks.batches.records import BatchRecord, job_id_of
from tasks.identifiers import new_id
from tasks.queue import Queue
from tasks.records import Claim, JobRecord, ModelRecord, Outcome
from tasks.recordstore import RecordStore
from tasks.settings import Settings
from tasks.settle import Settler
from tasks.storage import Storage
from tasks.store import JobStore
from tests.service.helpers import zip_of
from tests.tasks.conftest import PROJECT

SPEC = {"steps": [{"technique": "prune"}]}
_LINES = 1200


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


def test_no_more_jobs_are_begun_at_once_than_the_batch_may_have(shop: Shop) -> None:
    batch = shop.advance(shop.of_items(9, max_concurrent=2))
    most = 0
    while claim := shop.claim():
        unfinished = [shop.jobs.list(PROJECT, state=state)[0] for state in ("queued", "running")]
        most = max(most, sum(map(len, unfinished)))
        shop.end(claim)
    assert most == 2
    assert shop.see(batch).counts.succeeded == 9
    assert len(set(shop.ran)) == 9


def test_equal_items_are_computed_once_and_say_so(shop: Shop) -> None:
    same = [shop.model("the same bytes") for _ in range(3)]
    items = [{"custom_id": f"copy {n}", "model_id": model, "spec": SPEC} for n, model in enumerate(same)]
    other = {"steps": [{"technique": "prune"}], "seed": 1}
    batch = shop.create(items=[*items, {"custom_id": "other seed", "model_id": same[0], "spec": other}])
    shop.advance(batch)
    assert shop.work() == 2
    ended = shop.see(batch)
    assert (ended.state, ended.outcome) == ("completed", "succeeded")
    assert (ended.counts.succeeded, ended.counts.reused) == (4, 2)
    first, *copies, odd = shop.lines(batch, "results")
    assert (first.reused_from, odd.reused_from) == (None, None)
    assert [copy.reused_from for copy in copies] == [first.job_id, first.job_id]
    assert all(copy.job_id is None and copy.summary == first.summary for copy in copies)
    assert all(copy.artifacts == first.artifacts for copy in copies)


def test_the_failure_of_equal_items_is_computed_once_too(shop: Shop) -> None:
    models = [shop.model("broken"), shop.model("broken")]
    batch = shop.create(models=models, defaults={"spec": SPEC})
    shop.advance(batch)
    assert shop.work(failed) == 1
    ended = shop.see(batch)
    assert (ended.state, ended.outcome, ended.counts.failed) == ("failed", "failed", 2)
    assert ended.error is not None
    assert ended.error.code == "all_items_failed"
    assert [item.error.code for item in shop.lines(batch, "errors") if item.error] == ["bad_model"] * 2
    assert shop.told.events == [(PROJECT, "batch.failed", batch.id)]


def test_what_an_earlier_job_has_made_is_used_again_while_it_is_there(shop: Shop) -> None:
    first = shop.advance(shop.of_items(2))
    shop.work()
    again = shop.advance(shop.of_items(2))
    assert shop.claim() is None
    shop.advance(again)
    ended = shop.see(again)
    assert (ended.state, ended.counts.succeeded, ended.counts.reused) == ("completed", 2, 2)
    jobs = [item.job_id for item in shop.lines(first, "results")]
    assert [item.reused_from for item in shop.lines(again, "results")] == jobs
    # Not when the caller does not want it, nor when the files are gone.
    assert shop.advance(shop.of_items(1, reuse=False)).counts.total == 1
    assert shop.work() == 1
    for job_id in {job for job in shop.ran if job}:
        shop.storage.delete_prefix(keys.job_prefix(PROJECT, job_id))
    shop.advance(shop.of_items(1))
    assert shop.work() == 1


@pytest.mark.parametrize("change", ["project", "toolchain", "limits"])
def test_the_result_of_another_project_or_toolchain_is_not_used(shop: Shop, change: str) -> None:
    batch = shop.advance(shop.of_items(1))
    shop.work()
    if change == "toolchain":
        shop.batches.earlier.announce_toolchain({**installed_toolchain(), "tensorflow": "0"})
    project = "other" if change == "project" else PROJECT
    model = shop.model("model 0", project=project)
    limits = {"max_run_s": 5} if change == "limits" else {}
    item = {"custom_id": "item-0", "model_id": model, "spec": SPEC, "limits": limits}
    again = shop.advance(shop.create(project=project, items=[item]))
    assert shop.jobs.find(job_id_of(again.id, "item-0")) is not None
    assert job_id_of(again.id, "item-0") != job_id_of(batch.id, "item-0")


def test_a_full_queue_is_waited_for(
    settings: Settings, redis_client: redis.Redis, storage: Storage, store: JobStore, queue: Queue
) -> None:
    tight = settings.model_copy(update={"project_queued_jobs": 2})
    shop = Shop(tight, redis_client, storage, JobStore(redis_client, tight), queue)
    batch = shop.advance(shop.of_items(5))
    assert len(shop.jobs.list(PROJECT, state="queued")[0]) == 2
    assert shop.see(batch).counts.invalid == 0
    for _ in range(5):
        shop.work()
        shop.advance(batch)
    ended = shop.see(batch)
    assert (ended.state, ended.counts.succeeded) == ("completed", 5)
    assert len(set(shop.ran)) == len(shop.ran) == 5


def test_a_cancelled_batch_keeps_what_has_ended(shop: Shop) -> None:
    batch = shop.advance(shop.of_items(6, max_concurrent=2))
    first = shop.claim()
    assert first is not None
    shop.end(first)
    running = shop.claim()
    assert running is not None
    assert shop.batches.store.stop(batch.id, PROJECT, "cancelled").state == "cancelling"
    shop.advance(batch)
    assert shop.see(batch).state == "cancelling"
    assert shop.jobs.renew(running).cancel_requested
    shop.end(running, Outcome.cancelled())
    ended = shop.see(batch)
    assert (ended.state, ended.outcome) == ("cancelled", "partial")
    assert (ended.counts.succeeded, ended.counts.cancelled, ended.counts.queued) == (1, 5, 0)
    assert [item.index for item in shop.lines(batch, "errors")] == [1, 2, 3, 4, 5]
    assert shop.told.events == [(PROJECT, "batch.cancelled", batch.id)]
    # Asked again, it stays as it is.
    assert shop.batches.store.stop(batch.id, PROJECT, "cancelled").state == "cancelled"


def test_a_batch_that_takes_too_long_expires(shop: Shop) -> None:
    batch = shop.advance(shop.of_items(3, max_concurrent=1))
    running = shop.claim()
    assert running is not None
    shop.client.hset(f"fw:batch:{batch.id}", "expires_at", 1)
    assert shop.advance(batch).state == "cancelling"
    shop.end(running, Outcome.cancelled())
    ended = shop.see(batch)
    assert (ended.state, ended.outcome, ended.counts.expired) == ("expired", "failed", 3)
    assert {item.error.code for item in shop.lines(batch, "errors") if item.error} == {"batch_expired"}


def test_the_first_failure_stops_a_batch_that_wants_it(shop: Shop) -> None:
    batch = shop.advance(shop.of_items(6, max_concurrent=3, on_failure="stop"))
    first, second = shop.claim(), shop.claim()
    assert first is not None
    assert second is not None
    shop.end(first, failed(first.job))
    shop.advance(batch)
    # What runs may end, what waits is not begun.
    assert not shop.jobs.renew(second).cancel_requested
    assert shop.claim() is None
    shop.end(second)
    ended = shop.see(batch)
    assert (ended.state, ended.outcome) == ("failed", "partial")
    assert (ended.counts.failed, ended.counts.succeeded, ended.counts.cancelled) == (1, 1, 4)
    assert ended.error is not None
    assert ended.error.code == "batch_stopped"
    assert "'item-0'" in ended.error.detail


def test_nothing_is_begun_of_an_invalid_batch_that_stops_on_failure(shop: Shop) -> None:
    items = [
        {"custom_id": "good", "model_id": shop.model(), "spec": SPEC},
        {"custom_id": "bad", "model_id": "mdl_unknown", "spec": SPEC},
    ]
    batch = shop.create(items=items, on_failure="stop")
    for _ in range(3):
        shop.advance(batch)
    ended = shop.see(batch)
    assert (ended.state, ended.counts.invalid, ended.counts.cancelled) == ("failed", 1, 1)
    assert shop.jobs.list(PROJECT)[0] == []


def test_a_batch_goes_on_where_its_worker_died(shop: Shop) -> None:
    """Taken and never submitted, ended and never told: both are found out."""
    batch = shop.advance(shop.of_items(4, max_concurrent=1))
    claim = shop.claim()
    assert claim is not None
    shop.jobs.finalizing(claim)
    shop.jobs.commit(claim, shop.success(claim))
    shop.advance(batch)
    assert shop.see(batch).counts.succeeded == 1
    # The second item has been begun by look_after's turn; another process dies after taking the third.
    second = shop.claim()
    assert second is not None
    shop.jobs.finalizing(second)
    shop.jobs.commit(second, shop.success(second))
    item = shop.batches.store.items(batch.id, [1])[0]
    shop.batches.submission.end_by_job(batch, item, shop.jobs.get(PROJECT, second.job_id))
    assert shop.batches.store.take(batch.id) == 2
    shop.client.hset(f"fw:batch:{batch.id}:active", "2", 0)
    shop.advance(batch)
    assert shop.work() == 2
    assert shop.see(batch).counts.succeeded == 4
    assert shop.see(batch).state == "completed"


def test_what_a_batch_needs_is_held_until_it_has_ended(shop: Shop) -> None:
    batch = shop.advance(shop.of_items(2, max_concurrent=1))
    models = [item.model_id for item in shop.batches.store.items(batch.id, range(2))]
    users = [f"fw:users:{PROJECT}:{model}" for model in models]
    assert all(shop.client.sismember(key, batch.id) for key in users)
    shop.work()
    assert shop.see(batch).done
    assert not any(shop.client.sismember(key, batch.id) for key in users)


def test_ended_jobs_may_be_told_of_again_and_again(shop: Shop) -> None:
    batch = shop.advance(shop.of_items(3, max_concurrent=3))
    claim = shop.claim()
    assert claim is not None
    shop.end(claim)
    for _ in range(3):
        shop.batches.job_ended(shop.jobs.get(PROJECT, claim.job_id))
    assert shop.see(batch).counts.succeeded == 1
    shop.work()
    shop.batches.job_ended(shop.jobs.get(PROJECT, claim.job_id))
    assert shop.see(batch).counts.succeeded == 3
    assert len(shop.told.events) == 1


def test_a_long_input_file_is_read_page_by_page(shop: Shop) -> None:
    """Lines that are wrong in one way or another are told, all of them, and the others run."""
    model = shop.model()
    wrong = {
        3: b"no json at all",
        13: b'["not", "an", "object"]',
        23: json.dumps({"custom_id": "line-22", "model_id": model}).encode(),
        33: json.dumps({"custom_id": "unknown", "model_id": "mdl_unknown"}).encode(),
        43: json.dumps({"custom_id": "misspelt", "modell_id": model}).encode(),
        53: b'{"custom_id": "\xff", "model_id": "m"}',
    }
    lines = [
        wrong.get(n, json.dumps({"custom_id": f"line-{n}", "model_id": model}).encode()) + b"\n"
        for n in range(_LINES)
    ]
    file_id = new_id("batch_file")
    shop.storage.put_bytes(keys.batch_file_key(PROJECT, file_id), b"\xef\xbb\xbf" + b"".join(lines))
    batch = shop.create(input_file_id=file_id, defaults={"spec": SPEC})
    while shop.see(batch).state == "validating":
        shop.batches.advance(batch.id, turn_s=0.5)
    seen = shop.see(batch)
    assert (seen.counts.total, seen.counts.invalid) == (_LINES, len(wrong))
    while shop.see(batch).state == "in_progress":
        shop.work()
        shop.advance(batch)
    shop.advance(batch)
    ended = shop.see(batch)
    assert (ended.state, ended.outcome) == ("completed", "partial")
    # All are equal: one job.
    assert len(shop.ran) == 1
    assert ended.counts.reused == _LINES - len(wrong) - 1
    errors = {item.index: item for item in shop.lines(batch, "errors")}
    assert {index: item.error.code for index, item in errors.items() if item.error} == {
        3: "bad_json",
        13: "invalid_request",
        23: "duplicate_custom_id",
        33: "invalid_request",
        43: "invalid_request",
        53: "bad_json",
    }
    assert [errors[n].line for n in (3, 53)] == [4, 54]
    pointers = {fault.pointer for fault in errors[43].error.errors}  # type: ignore[union-attr]
    assert pointers == {"/model_id", "/modell_id"}
    assert errors[33].custom_id == "unknown"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{}\0{}", "no text"),
        (b"\n \n\n", "no items"),
        (b'{"a": "' + b"x" * 2_000_000, "longer than"),
        (b'{"a": "' + b"x" * 1_100_000 + b'"}\n{}', "longer than"),
        (None, "no longer stored"),
    ],
    ids=["binary", "blank", "endless", "long", "gone"],
)
def test_an_input_that_cannot_be_read_fails_the_batch(shop: Shop, content: bytes | None, says: str) -> None:
    file_id = new_id("batch_file")
    if content is not None:
        shop.storage.put_bytes(keys.batch_file_key(PROJECT, file_id), content)
    batch = shop.create(input_file_id=file_id, defaults={"spec": SPEC})
    shop.advance(batch)
    ended = shop.see(batch)
    assert ended.state == "failed"
    assert ended.error is not None
    assert says in ended.error.detail
    assert shop.told.events == [(PROJECT, "batch.failed", batch.id)]


def test_each_object_under_a_prefix_is_a_model(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.batches.sources._OBJECTS_AT_ONCE", 2)
    for name in ("night/a.keras", "night/b.keras", "night/c.txt", "day/d.keras"):
        content = b"plain text" if name.endswith("txt") else zip_of("metadata.json", len(name))
        shop.storage.put_bytes(keys.inbox_prefix("prefixed") + name, content)
    specs = [{"name": name, "spec": {**SPEC, "seed": seed}} for seed, name in enumerate(("x", "y"))]
    batch = shop.advance(shop.create(project="prefixed", prefix="night/", specs=specs))
    items = shop.batches.store.items(batch.id, range(10))
    assert [(item.custom_id, item.state) for item in items] == [
        ("night/a.keras/x", "queued"),
        ("night/a.keras/y", "queued"),
        ("night/b.keras/x", "queued"),
        ("night/b.keras/y", "queued"),
        ("night/c.txt", "invalid"),
    ]
    assert items[4].error is not None
    assert items[4].error.code == "unknown_file_type"
    assert items[0].model_id == items[1].model_id != items[2].model_id
    empty = shop.advance(shop.create(project="prefixed", prefix="nothing/", specs=specs))
    assert empty.state == "failed"


def test_batches_survive_the_loss_of_redis(shop: Shop, redis_admin: redis.Redis) -> None:
    """Of a batch that ended the record comes back; one that had not begins again, nothing is done twice."""
    over = shop.advance(shop.of_items(2))
    shop.work()
    before = shop.see(over)
    half = shop.advance(shop.of_items(3, max_concurrent=1, reuse=False))
    claim = shop.claim()
    assert claim is not None
    shop.end(claim)
    for part in redis_admin.keys("fw:batch*"):
        redis_admin.delete(part)
    assert rebuild_batches(shop.batches.store, shop.storage, PROJECT).restored >= 2
    assert rebuild_batches(shop.batches.store, shop.storage, PROJECT).restored == 0
    assert shop.see(over).public() == before.public()
    assert [item.index for item in shop.lines(over, "results")] == [0, 1]
    ran = len(shop.ran)
    shop.advance(half)
    shop.work()
    ended = shop.see(half)
    assert (ended.state, ended.counts.succeeded) == ("completed", 3)
    assert len(shop.ran) == ran + 2
    assert ended.created_at == half.created_at
