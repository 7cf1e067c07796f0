"""Uploads in parts that nobody would end."""

from __future__ import annotations

import pytest
import redis

from tasks import keys
from tasks.identifiers import new_id
from tasks.settings import Settings
from tasks.settle import Settler
from tasks.storage import Storage
from tasks.unfinished import NOTED, Unfinished
from tests.tasks.conftest import PROJECT, Bench


@pytest.fixture
def unfinished(redis_client: redis.Redis, storage: Storage) -> Unfinished:
    return Unfinished(redis_client, storage)


def a_key() -> str:
    return keys.model_key(PROJECT, new_id("model"))


def is_open(storage: Storage, key: str, upload_id: str) -> bool:
    try:
        storage.list_parts(key, upload_id)
    except FileNotFoundError:
        return False
    return True


def test_upload_that_no_record_names_is_ended_once_it_is_due(
    unfinished: Unfinished, redis_client: redis.Redis, storage: Storage
) -> None:
    key = a_key()
    unfinished.begins(key)
    # Two, for the answer to the first got lost and it was asked again.
    uploads = [storage.create_multipart(key) for _ in range(2)]
    unfinished.sweep()
    assert all(is_open(storage, key, upload_id) for upload_id in uploads)
    redis_client.zadd(NOTED, {key: 0})
    unfinished.sweep()
    assert not any(is_open(storage, key, upload_id) for upload_id in uploads)
    assert redis_client.zcard(NOTED) == 0


def test_upload_that_a_record_names_goes_on(
    unfinished: Unfinished, redis_client: redis.Redis, storage: Storage
) -> None:
    key = a_key()
    unfinished.begins(key)
    upload_id = storage.create_multipart(key)
    unfinished.recorded(key)
    assert redis_client.zcard(NOTED) == 0
    unfinished.sweep()
    assert is_open(storage, key, upload_id)
    assert storage.abort_uploads(key) == 1


def test_note_stays_while_storage_is_away(settings: Settings, redis_client: redis.Redis) -> None:
    nowhere = settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"})
    unfinished = Unfinished(redis_client, Storage(nowhere))
    unfinished.begins(key := a_key())
    redis_client.zadd(NOTED, {key: 0})
    unfinished.sweep()
    assert redis_client.zscore(NOTED, key) == 0


def test_large_output_of_a_worker_that_died_while_it_stored_it_is_ended_with_the_job(bench: Bench) -> None:
    job = bench.submit()
    key = keys.artifact_key(PROJECT, job.id, 1, "model.keras")
    upload_id = bench.storage.create_multipart(key)
    bench.supervisor("behaves").run(job.id)
    record = bench.store.get(PROJECT, job.id)
    assert record.state == "succeeded"
    assert not is_open(bench.storage, key, upload_id)


def test_large_output_of_an_attempt_that_was_lost_is_ended_before_the_job_is(bench: Bench) -> None:
    job = bench.submit()
    bench.store.claim(job.id, "somebody")
    key = keys.artifact_key(PROJECT, job.id, 1, "model.keras")
    upload_id = bench.storage.create_multipart(key)
    Settler(bench.store, bench.storage).withdraw(job.id, 1)
    assert is_open(bench.storage, key, upload_id), "it still holds the job"
    Settler(bench.store, bench.storage).withdraw(job.id, 2)
    assert is_open(bench.storage, key, upload_id), "it is of another attempt"
    record = bench.store.get(PROJECT, job.id)
    assert record.state == "running"
    bench.client.zadd("fw:leases", {job.id: 0})
    bench.store.expire_leases()
    Settler(bench.store, bench.storage).withdraw(job.id, 1)
    assert not is_open(bench.storage, key, upload_id)
