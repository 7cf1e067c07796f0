"""Redis is lost with all that was in it, and its records are made anew from storage."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from featherweight.job import Origin
from featherweight.problem import problem
from tasks import keys
from tasks.gate import VERSION
from tasks.identifiers import new_id
from tasks.rebuild import Rebuild, Rebuilt
from tasks.records import DatasetRecord, JobRecord, ModelRecord, Outcome
from tasks.recordstore import RecordStore
from tasks.settings import Settings
from tasks.storage import Storage
from tasks.submission import Submitter
from tasks.usage import Accounts
from tests.tasks.conftest import Bench, request


class Shop:
    """A project of its own, for storage is shared by the session's tests."""

    def __init__(self, bench: Bench, admin: redis.Redis) -> None:
        self.bench, self.admin = bench, admin
        self.project = new_id("job").replace("job_", "shop-")
        self.models = RecordStore(bench.client, "model", ModelRecord)
        self.datasets = RecordStore(bench.client, "dataset", DatasetRecord)
        self.accounts = Accounts(bench.client, bench.settings)
        self.submitter = Submitter.of(bench.settings, bench.client, bench.storage, bench.queue)

    def file(self, kind: str, content: bytes = b"bytes") -> str:
        of_model: dict[str, Any] = {"framework": "tensorflow"} if kind == "model" else {}
        resource_id = new_id(kind)  # type: ignore[arg-type]
        key = getattr(keys, f"{kind}_key")(self.project, resource_id)
        record_type = ModelRecord if kind == "model" else DatasetRecord
        record: Any = record_type(
            id=resource_id,
            filename="f",
            format="keras_zip",
            bytes=len(content),
            sha256="0" * 64,
            created_at=datetime.now(UTC),
            project=self.project,
            key=key,
            gated=VERSION,
            **of_model,
        )
        self.bench.storage.put_bytes(key, content)
        self.bench.storage.put_json(
            getattr(keys, f"{kind}_record_key")(self.project, resource_id), record.model_dump(mode="json")
        )
        store: Any = self.models if kind == "model" else self.datasets
        self.accounts.keep(self.project, resource_id, len(content))
        store.put(self.project, record)
        return resource_id

    def job(self, model_id: str, origin: Origin | None = None, **limits: int) -> JobRecord:
        wanted = request(model_id, **limits).model_copy(update={"name": "n", "metadata": {"a": "b"}})
        return self.submitter.submit(
            self.project, wanted, job_id=new_id("job"), request_id="req_1", origin=origin
        )

    def get(self, job: JobRecord) -> JobRecord:
        return self.bench.store.get(self.project, job.id)

    def rebuild(self) -> Rebuilt:
        bench = self.bench
        return Rebuild(bench.settings, bench.client, bench.storage, bench.queue).run(self.project)

    def lose(self) -> None:
        self.admin.flushall()

    def ids(self, **how: Any) -> list[str]:
        return [job.id for job in self.bench.store.list(self.project, limit=1000, **how)[0]]


@pytest.fixture
def shop(bench: Bench, redis_admin: redis.Redis) -> Shop:
    return Shop(bench, redis_admin)


def everything(shop: Shop) -> dict[str, Any]:
    """What Redis says about the project, but for what tells when somebody looked."""
    jobs, _ = shop.bench.store.list(shop.project, limit=1000)
    lists: dict[str, Any] = {
        "models": shop.models.list(shop.project, limit=100)[0],
        "datasets": shop.datasets.list(shop.project, limit=100)[0],
        "jobs": [job.model_dump(exclude={"version", "updated_at", "queued_at"}) for job in jobs],
        "stored": shop.accounts.usage(shop.project).stored,
    }
    states = {job.state for job in jobs}
    return lists | {state: shop.ids(state=state) for state in states}


def end(shop: Shop, job: JobRecord, outcome: Outcome, *, artifact: bytes = b"") -> None:
    """As a worker does it."""
    from featherweight.events import LogEvent
    from featherweight.job import Artifact
    from tasks.settle import Settler

    store, storage = shop.bench.store, shop.bench.storage
    claim = store.claim(job.id, "worker")
    assert claim is not None
    assert claim.job_id == job.id
    store.emit(claim, LogEvent(message="words"))
    store.finalizing(claim)
    if artifact:
        key = keys.artifact_key(shop.project, job.id, claim.attempt, "model.tflite")
        storage.put_bytes(key, artifact)
        made = Artifact(name="model.tflite", format="tflite", bytes=len(artifact), sha256="0" * 64)
        outcome = Outcome.succeeded([made], "smaller")
    assert store.commit(claim, outcome)
    Settler(store, storage).settle(shop.get(job))


def test_what_redis_had_it_has_again(shop: Shop) -> None:
    models = [shop.file("model", b"m" * n) for n in (3, 5)]
    shop.file("dataset", b"d" * 7)
    jobs = [shop.job(models[n % 2]) for n in range(4)]
    end(shop, jobs[0], Outcome.cancelled(), artifact=b"artifact")
    end(shop, jobs[1], Outcome.failed(problem("bad_model", "damaged", layer="dense")))
    shop.bench.store.request_cancel(shop.project, jobs[2].id)
    from tasks.settle import Settler

    Settler(shop.bench.store, shop.bench.storage).settle(shop.get(jobs[2]))
    origin = Origin(type="retry", id=jobs[1].id)
    shop.job(models[1], origin, max_total_s=3600, max_run_s=7)
    before = everything(shop)
    shop.lose()
    assert everything(shop)["jobs"] == []
    rebuilt = shop.rebuild()
    assert rebuilt.restored == {"models": 2, "datasets": 1, "jobs": 5}
    assert (rebuilt.queued, rebuilt.not_restored, rebuilt.others) == (2, 0, {})
    after = everything(shop)
    # Those that had not ended begin anew, with a number that nobody holds any more.
    for job in after["jobs"]:
        if job["state"] == "queued":
            assert job["attempt"] == 1
            job["attempt"] = 0
    assert after == before
    assert shop.ids(model_id=models[1]) == [before["jobs"][n]["id"] for n in (0, 1, 3)]
    assert shop.ids(model_id=models[0], state="cancelled") == [jobs[2].id]
    succeeded = shop.bench.store.get(shop.project, jobs[0].id)
    assert (succeeded.state, succeeded.artifacts[0].bytes) == ("succeeded", 8)
    # Done again it changes nothing.
    again = shop.rebuild()
    assert (again.restored, again.present) == ({}, rebuilt.restored)
    assert {**everything(shop), "jobs": 0} == {**after, "jobs": 0}


def test_jobs_that_had_not_ended_are_done_in_their_order(shop: Shop) -> None:
    model = shop.file("model")
    shop.bench.storage.put_bytes(keys.model_key(shop.project, model), b"bytes")
    jobs = [shop.job(model) for _ in range(3)]
    lost = shop.bench.store.claim(jobs[0].id, "worker")
    assert lost is not None
    shop.lose()
    assert shop.rebuild().queued == 3
    assert shop.bench.queue.hinted() == {job.id for job in jobs}
    # Newer ones come after them.
    newest = shop.job(model)
    assert shop.ids() == [newest.id, *(job.id for job in reversed(jobs))]
    order = []
    for _ in range(4):
        claim = shop.bench.store.claim(newest.id, "worker")
        assert claim is not None
        order.append(claim.job_id)
        # The attempt that was running when Redis was lost can pass for none of these.
        assert claim.attempt != lost.attempt or claim.job_id == newest.id
    assert order == [*(job.id for job in jobs), newest.id]
    assert not shop.bench.store.renew(lost).owned
    assert not shop.bench.store.commit(lost, Outcome.cancelled())


def test_attempts_are_counted_on_after_those_that_left_something(shop: Shop) -> None:
    job = shop.job(shop.file("model"))
    for number in (2, 7):
        shop.bench.storage.put_bytes(keys.artifact_key(shop.project, job.id, number, "x"), b"")
    shop.lose()
    shop.rebuild()
    claim = shop.bench.store.claim(job.id, "worker")
    assert claim is not None
    assert claim.attempt == 9
    assert [attempt.number for attempt in shop.get(job).attempts] == [9]


def test_deadlines_are_kept(shop: Shop) -> None:
    model = shop.file("model")
    job, other = shop.job(model, max_total_s=60), shop.job(model, max_queue_s=60)
    shop.lose()
    shop.rebuild()
    created = shop.get(job).created_at.timestamp()
    assert shop.bench.client.zscore("fw:total-deadlines", job.id) == pytest.approx(created + 60, abs=1e-3)
    assert shop.bench.client.zscore("fw:total-deadlines", other.id) is None
    assert shop.bench.client.zcard("fw:deadlines") == 2


def test_while_the_service_runs_nothing_of_it_is_touched(shop: Shop) -> None:
    model = shop.file("model")
    old = shop.job(model)
    shop.lose()
    # The service went on before anybody noticed.
    new_model = shop.file("model")
    new = shop.job(new_model)
    claim = shop.bench.store.claim(new.id, "worker")
    assert claim is not None
    assert shop.bench.store.finalizing(claim)
    before = shop.get(new)
    rebuilt = shop.rebuild()
    assert (rebuilt.restored, rebuilt.present) == ({"models": 1, "jobs": 1}, {"models": 1, "jobs": 1})
    assert shop.get(new) == before
    assert shop.bench.store.renew(claim).owned
    assert shop.ids() == [new.id, old.id]
    assert [record.id for record in shop.models.list(shop.project)[0]] == [new_model, model]


def test_what_was_removed_while_it_was_read_stays_removed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = shop.file("model")
    shop.lose()
    read = Storage.read

    def removing(storage: Storage, key: str, **options: Any) -> bytes:
        found = read(storage, key, **options)
        storage.delete(key)
        return found

    monkeypatch.setattr(Storage, "read", removing)
    shop.rebuild()
    assert shop.models.list(shop.project)[0] == []
    assert shop.accounts.usage(shop.project).stored_bytes == 0
    assert model not in str(shop.models.list(shop.project))


def test_what_cannot_be_read_is_named_and_the_rest_restored(shop: Shop) -> None:
    storage, project = shop.bench.storage, shop.project
    good, foreign, bare, torn = (shop.file("model") for _ in range(4))
    foreign_key = keys.model_record_key(project, foreign)
    stolen = storage.get_json(keys.model_record_key(project, good))
    storage.put_json(foreign_key, stolen)
    storage.delete(keys.model_record_key(project, bare))
    storage.delete(keys.model_key(project, torn))
    jobs = [shop.job(good) for _ in range(5)]
    storage.put_bytes(keys.job_key(project, jobs[0].id), b"{ torn")
    storage.delete(keys.job_key(project, jobs[1].id))
    storage.put_bytes(keys.artifact_key(project, jobs[1].id, 1, "log.txt"), b"")
    ended = storage.get_json(keys.job_key(project, jobs[2].id))
    storage.put_json(keys.result_key(project, jobs[2].id), ended)
    unknown = {**ended, "id": jobs[3].id, "spec": {"steps": [{"technique": "wish"}]}}
    storage.put_json(keys.job_key(project, jobs[3].id), unknown)
    storage.put_json(f"projects/{project}/batches/bat_a/batch.json", {})
    shop.lose()
    rebuilt = shop.rebuild()
    assert rebuilt.restored == {"models": 1, "jobs": 1}
    assert rebuilt.others == {}
    why = {key.removeprefix(f"projects/{project}/"): words for key, words in rebuilt.unreadable}
    assert rebuilt.not_restored == len(why) == 8
    expected = {
        "batches/bat_a/batch.json": "created_at",
        f"models/{foreign}/model.json": "something else",
        f"models/{bare}/{bare}.bin": "no model.json",
        f"models/{torn}/model.json": "bytes that it describes are gone",
        f"jobs/{jobs[0].id}/job.json": "no such record",
        f"jobs/{jobs[1].id}/": "no job.json",
        f"jobs/{jobs[2].id}/result.json": "a job that is queued",
        f"jobs/{jobs[3].id}/job.json": "wish",
    }
    for key, words in expected.items():
        assert words in why[key], (key, why[key])
    assert shop.ids() == [jobs[4].id]


def test_a_failure_told_with_its_attempts_is_told_the_same(shop: Shop) -> None:
    job = shop.job(shop.file("model"))
    for _ in range(3):
        assert shop.bench.store.claim(job.id, "worker") is not None
        shop.bench.client.zadd("fw:leases", {job.id: 0})
        shop.bench.store.expire_leases()
    ended = shop.get(job)
    assert ended.error is not None
    from tasks.settle import Settler

    Settler(shop.bench.store, shop.bench.storage).settle(ended)
    shop.lose()
    shop.rebuild()
    assert shop.get(job).error == ended.error
    assert shop.get(job).attempts == ended.attempts


@pytest.mark.slow
def test_thousands_of_objects_take_little_memory(
    shop: Shop, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the listing one page is held, and of the records a few: storage is a generator here."""
    job = shop.job(shop.file("model"))
    template = shop.bench.storage.read(keys.job_key(shop.project, job.id)).decode()
    ids = [new_id("job") for _ in range(3_000)]

    def listed(_: Storage, prefix: str) -> Iterator[str]:
        for job_id in sorted(ids):
            yield keys.job_key(shop.project, job_id)

    def read(_: Storage, key: str) -> bytes:
        return template.replace(job.id, key.split("/")[3]).encode()

    monkeypatch.setattr(Storage, "iter_keys", listed)
    monkeypatch.setattr(Storage, "read", read)
    monkeypatch.setattr("tasks.queue.Queue.enqueue", lambda *_, **__: None)
    shop.lose()
    tracemalloc.start()
    try:
        rebuilt = shop.rebuild()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (rebuilt.restored["jobs"], rebuilt.queued) == (3_000, 3_000)
    assert peak < 8 * 1024 * 1024
    assert json.loads(template)["id"] == job.id
