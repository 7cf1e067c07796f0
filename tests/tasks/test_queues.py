"""A queue for each framework: what a worker imports beforehand, and what is announced where."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from featherweight.job import JobRequest
from tasks.batches.identity import equality, installed_toolchain
from tasks.batches.records import job_id_of
from tasks.compression.catalogue import BACKENDS
from tasks.identifiers import new_id
from tasks.queue import JOB_QUEUES, Queue, queue_of
from tasks.reaper import Reaper
from tasks.records import ModelRecord
from tasks.recordstore import RecordStore
from tasks.sandbox.children import Runners
from tasks.settings import Settings
from tasks.storage import Storage
from tasks.store import JobStore
from tasks.targets import resolve
from tasks.warming import warm_targets
from tests.tasks.conftest import PROJECT, Bench, request
from tests.tasks.schedules import Almanac
from tests.tasks.test_batches import SPEC, Shop

WARM = "tasks.compression.backends.{}:warm"


def test_every_framework_has_its_queue() -> None:
    assert [queue_of(framework) for framework in BACKENDS] == list(JOB_QUEUES)
    with pytest.raises(ValueError, match="abacus"):
        queue_of("abacus")


@pytest.mark.parametrize(
    ("queues", "warmed"),
    [
        (["tensorflow"], ["tensorflow"]),
        (["torch"], ["torch"]),
        (["torch", "tensorflow"], ["tensorflow", "torch"]),
        (["webhooks"], []),
    ],
)
def test_a_worker_imports_the_frameworks_of_the_queues_it_serves(
    queues: list[str], warmed: list[str]
) -> None:
    targets = warm_targets(Settings(runner_warm=None), queues)
    assert targets == tuple(WARM.format(name) for name in warmed)
    assert all(callable(resolve(target)) for target in targets)


def test_what_to_import_may_be_said(settings: Settings) -> None:
    said = settings.model_copy(update={"runner_warm": "a.b:c, d:e"})
    assert warm_targets(said, JOB_QUEUES) == ("a.b:c", "d:e")
    assert warm_targets(settings.model_copy(update={"runner_warm": ""}), JOB_QUEUES) == ()


def test_a_fork_server_imports_all_it_is_told(tmp_path: Path) -> None:
    """One that cannot import the second is gone; one that can goes on."""
    runners = Runners("", tmp_path)
    runners.warm_up(["platform:python_version", "nowhere:warm"])
    assert runners._process is not None
    assert runners._process.wait(30) != 0
    runners.stop()


def of_pytorch(client: redis.Redis, model_id: str) -> None:
    """The model is one of PyTorch from now on."""
    models = RecordStore(client, "model", ModelRecord)
    record = models.get(PROJECT, model_id)
    models.put(PROJECT, record.model_copy(update={"format": "pt2", "framework": "torch"}))


def test_a_batchs_jobs_wait_in_the_queues_of_their_models(
    settings: Settings, redis_client: redis.Redis, storage: Storage, store: JobStore, queue: Queue
) -> None:
    shop = Shop(settings, redis_client, storage, store, queue)
    models = {"keras": shop.model("one"), "pt2": shop.model("other")}
    of_pytorch(redis_client, models["pt2"])
    batch = shop.create(
        items=[{"custom_id": name, "model_id": model, "spec": SPEC} for name, model in models.items()]
    )
    shop.advance(batch)
    ids = {name: job_id_of(batch.id, name) for name in models}
    assert queue.hinted("tensorflow") == {ids["keras"]}
    assert queue.hinted("torch") == {ids["pt2"]}


def test_earlier_results_are_those_of_the_frameworks_toolchain(
    settings: Settings, redis_client: redis.Redis, storage: Storage, store: JobStore, queue: Queue
) -> None:
    shop = Shop(settings, redis_client, storage, store, queue)
    earlier = shop.batches.earlier
    for framework in JOB_QUEUES:
        earlier.announce_toolchain(installed_toolchain(framework), framework)
    shop.advance(shop.of_items(1))
    assert shop.work() == 1
    record = store.get(PROJECT, shop.ran[0])
    model = RecordStore(redis_client, "model", ModelRecord).get(PROJECT, record.model_id)
    asked = JobRequest.model_validate(record.model_dump(include=set(JobRequest.model_fields)))
    equal = equality(model.sha256, None, asked)
    assert earlier.find(PROJECT, equal, "torch") is None
    found = earlier.find(PROJECT, equal, "tensorflow")
    assert found is not None
    assert found.id == record.id


def test_a_schedules_job_waits_in_the_queue_of_its_model(
    settings: Settings, redis_client: redis.Redis, storage: Storage, queue: Queue
) -> None:
    almanac = Almanac(settings, redis_client, storage, queue)
    model = almanac.model()
    of_pytorch(redis_client, model)
    runs = almanac.look(almanac.schedule(since_s=61, job={"model_id": model, "spec": SPEC}))
    assert queue.hinted("torch") == {run.job_id for run in runs}
    assert queue.hinted("tensorflow") == set()


def test_a_forgotten_job_is_announced_in_its_own_queue(bench: Bench) -> None:
    of_keras = bench.submit()
    job = bench.store.create(PROJECT, request(), job_id=new_id("job"), queue="torch")
    for queue in JOB_QUEUES:
        bench.client.delete(queue)
    bench.client.zadd("fw:hints", {job.id: 0, of_keras.id: 0}, xx=True)
    Reaper(bench.settings, bench.client, bench.store, bench.storage, bench.queue).look()
    assert bench.queue.hinted("torch") == {job.id}
    assert bench.queue.hinted("tensorflow") == {of_keras.id}
