"""Redis or storage go away in the middle of a job, and come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from deploy.local.object_store import ObjectStore
from deploy.local.redis_server import RedisServer
from tasks.messages import new_message_key
from tasks.queue import Queue, make_celery
from tasks.sandbox.children import Runners
from tasks.settings import Settings
from tasks.storage import Storage, StorageUnavailable
from tasks.store import JobStore, connect
from tests.faults.proxy import Answer, BlackHole, Cut, Fault, FaultProxy, Refuse, Slow
from tests.tasks.conftest import PROJECT, Bench, eventually, pids
from tests.tasks.test_worker import Workers, done, submit, times_ended

pytestmark = pytest.mark.slow


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def object_store(tmp_path: Path) -> Iterator[ObjectStore]:
    store = ObjectStore(tmp_path / "objects").start()
    yield store
    # Nothing is to be kept, and to end in order takes it seconds.
    store.kill()


@pytest.fixture
def bench(redis_server: RedisServer, object_store: ObjectStore, tmp_path: Path) -> Iterator[Bench]:
    """On parts of its own, to be killed."""
    settings = Settings(
        redis_url=redis_server.url("worker"),
        message_keys=SecretStr(new_message_key()),
        s3_endpoint_url=object_store.endpoint_url,
        s3_bucket=object_store.bucket,
        s3_access_key_id=SecretStr(object_store.access_key_id),
        s3_secret_access_key=SecretStr(object_store.secret_access_key),
        scratch_dir=tmp_path / "scratch",
        runner_warm="",
        lease_s=2,
        heartbeat_s=0.5,
        reaper_interval_s=0.5,
    )
    client = connect(settings)
    runners = Runners("", settings.scratch_dir / ".home")
    bench = Bench(
        settings, client, JobStore(client, settings), Storage(settings), Queue(make_celery(settings)), runners
    )
    yield bench
    runners.stop()
    client.close()


@pytest.fixture
def workers(bench: Bench, tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(bench, tmp_path)
    yield workers
    workers.stop()


def test_job_goes_on_through_a_restart_of_redis(
    bench: Bench, workers: Workers, redis_server: RedisServer
) -> None:
    job, waiting = submit(bench), submit(bench)
    worker = workers.start("waits_for_a_file")
    eventually(lambda: pids(bench.store, job))
    redis_server.kill()
    # Longer than the lease: whoever comes back first must not take the job away.
    time.sleep(3)
    redis_server.start()
    (bench.settings.scratch_dir / job.id / "work" / "go").touch()
    ended = eventually(lambda: done(bench, job), timeout_s=30)
    assert (ended.state, ended.attempt) == ("succeeded", 1)
    # The slot is free again and the worker consumes again.
    eventually(lambda: pids(bench.store, waiting), timeout_s=30)
    (bench.settings.scratch_dir / waiting.id / "work" / "go").touch()
    assert eventually(lambda: done(bench, waiting), timeout_s=30).state == "succeeded"
    assert (times_ended(bench, job), times_ended(bench, waiting)) == (1, 1)
    assert worker.poll() is None


def test_job_that_ends_while_storage_is_away_is_stored_when_it_is_back(
    bench: Bench, object_store: ObjectStore
) -> None:
    job = bench.submit()
    thread = threading.Thread(target=bench.supervisor("waits_for_a_file").run, args=(job.id,))
    thread.start()
    eventually(lambda: pids(bench.store, job))
    object_store.kill()
    (bench.settings.scratch_dir / job.id / "work" / "go").touch()
    eventually(lambda: bench.store.get(PROJECT, job.id).state == "finalizing")
    time.sleep(1)
    object_store.start()
    thread.join(60)
    ended = bench.store.get(PROJECT, job.id)
    assert (ended.state, ended.attempt) == ("succeeded", 1)
    assert {"a1/model.tflite", "a1/log.txt", "result.json"} == bench.keys(job)


def test_job_waits_for_storage_before_it_begins_and_can_be_cancelled(
    bench: Bench, object_store: ObjectStore
) -> None:
    job = bench.submit()
    object_store.kill()
    thread = threading.Thread(target=bench.supervisor("behaves").run, args=(job.id,))
    thread.start()
    eventually(lambda: bench.store.get(PROJECT, job.id).state == "running")
    time.sleep(1)
    bench.store.request_cancel(PROJECT, job.id)
    thread.join(60)
    assert bench.store.get(PROJECT, job.id).state == "cancelled"
    # Its result could not be written; the reaper does it later.
    assert bench.client.zcard("fw:unsettled") == 1


@pytest.fixture
def proxy(object_store: ObjectStore) -> Iterator[FaultProxy]:
    with FaultProxy(object_store.ports.s3) as proxy:
        yield proxy


@pytest.fixture
def behind_proxy(bench: Bench, proxy: FaultProxy) -> Bench:
    """The same bench, whose supervisors reach storage through the proxy."""
    settings = bench.settings.model_copy(update={"s3_endpoint_url": proxy.url})
    return Bench(settings, bench.client, bench.store, Storage(settings), bench.queue, bench.runners)


FETCHING = {"500": Answer(500), "silent": BlackHole(), "cut": Cut(after_bytes=50_000)}
STORING = {
    "some 503": Answer(503, share=0.5),
    "silent": BlackHole(),
    "slow": Slow(bytes_per_s=100_000, latency_s=0.2),
}


@pytest.mark.parametrize("fault", FETCHING.values(), ids=FETCHING)
def test_job_waits_until_its_inputs_can_be_fetched(
    behind_proxy: Bench, proxy: FaultProxy, fault: Fault
) -> None:
    job = behind_proxy.submit(data=bytes(300_000))
    thread = threading.Thread(target=behind_proxy.supervisor("behaves").run, args=(job.id,))
    with proxy.fault(fault):
        thread.start()
        # Longer than the lease, which stays.
        time.sleep(3)
        assert behind_proxy.store.get(PROJECT, job.id).attempt == 1
    thread.join(60)
    ended = behind_proxy.store.get(PROJECT, job.id)
    assert (ended.state, ended.attempt) == ("succeeded", 1)
    assert proxy.seen.total() > 1


@pytest.mark.parametrize("fault", STORING.values(), ids=STORING)
def test_job_waits_until_its_outputs_can_be_stored(
    behind_proxy: Bench, proxy: FaultProxy, fault: Fault
) -> None:
    job = behind_proxy.submit()
    thread = threading.Thread(target=behind_proxy.supervisor("waits_for_a_file").run, args=(job.id,))
    thread.start()
    eventually(lambda: pids(behind_proxy.store, job))
    with proxy.fault(fault):
        (behind_proxy.settings.scratch_dir / job.id / "work" / "go").touch()
        time.sleep(3)
    thread.join(60)
    ended = behind_proxy.store.get(PROJECT, job.id)
    assert (ended.state, ended.attempt) == ("succeeded", 1)
    assert behind_proxy.keys(job) == {"a1/model.tflite", "a1/log.txt", "result.json"}


def test_worker_whose_storage_went_away_leaves_the_queue_alone_until_it_is_back(
    bench: Bench, proxy: FaultProxy
) -> None:
    supervisor = bench.supervisor("behaves", s3_endpoint_url=proxy.url)
    supervisor.fitness.note(StorageUnavailable("as an attempt has found out"))
    with proxy.fault(Refuse()):
        assert "does not answer" in (supervisor.fitness.why_not() or "")
    assert supervisor.fitness.why_not() is None
