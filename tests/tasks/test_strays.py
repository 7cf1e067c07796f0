"""Uploads in parts that nobody would end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from tasks import keys
from tasks.identifiers import new_id
from tasks.leftovers import SENDING, Leftovers
from tasks.records import UploadRecord
from tasks.settings import Settings
from tasks.settle import Settler
from tasks.storage import Storage, StorageUnavailable
from tasks.strays import Strays
from tasks.uploads import Uploads
from tests.tasks.conftest import PROJECT, Bench


@pytest.fixture
def at_once(settings: Settings) -> Settings:
    """Nothing is too young to be a stray."""
    return settings.model_copy(update={"stray_upload_s": 0})


@pytest.fixture
def strays(at_once: Settings, redis_client: redis.Redis, storage: Storage) -> Strays:
    return Strays(at_once, redis_client, storage)


def a_key() -> str:
    return keys.model_key(PROJECT, new_id("model"))


def is_open(storage: Storage, key: str, upload_id: str) -> bool:
    try:
        storage.list_parts(key, upload_id)
    except FileNotFoundError:
        return False
    return True


def an_upload(key: str, s3_upload_id: str, **changes: Any) -> UploadRecord:
    now = datetime.now(UTC)
    record = UploadRecord(
        id=new_id("upload"),
        kind="model",
        state="open",
        filename="m.keras",
        size=1,
        sha256="0" * 64,
        part_size=1,
        created_at=now,
        expires_at=now + timedelta(hours=1),
        project=PROJECT,
        key=key,
        s3_upload_id=s3_upload_id,
    )
    return record.model_copy(update=changes)


def test_upload_that_no_record_names_is_ended_once_it_is_old(
    strays: Strays, settings: Settings, redis_client: redis.Redis, storage: Storage
) -> None:
    key = a_key()
    # Two, for the answer to the first got lost and it was asked again.
    uploads = [storage.create_multipart(key) for _ in range(2)]
    Strays(settings, redis_client, storage).sweep()
    assert all(is_open(storage, key, upload_id) for upload_id in uploads), "somebody may just be noting them"
    assert strays.sweep() >= 2
    assert not any(is_open(storage, key, upload_id) for upload_id in uploads)


def test_upload_that_the_record_of_an_open_one_names_goes_on_and_others_to_its_key_do_not(
    strays: Strays, settings: Settings, redis_client: redis.Redis, storage: Storage
) -> None:
    uploads, key = Uploads(settings, redis_client, storage), a_key()
    named, other = (storage.create_multipart(key) for _ in range(2))
    record = uploads.save(an_upload(key, named))
    strays.sweep()
    assert (is_open(storage, key, named), is_open(storage, key, other)) == (True, False)
    uploads.save(record.model_copy(update={"state": "aborted"}))
    strays.sweep()
    assert not is_open(storage, key, named)


def test_what_is_being_streamed_goes_on_until_it_is_given_up(
    strays: Strays, redis_client: redis.Redis, storage: Storage
) -> None:
    leftovers, key = Leftovers(redis_client, storage), a_key()
    upload_id = storage.create_multipart(key)

    def streamed() -> None:
        with leftovers.sending(key, within_s=60):
            strays.sweep()
            assert is_open(storage, key, upload_id)
            raise StorageUnavailable("away")

    with pytest.raises(StorageUnavailable):
        streamed()
    strays.sweep()
    assert not is_open(storage, key, upload_id)
    assert not redis_client.exists(SENDING)


def test_what_a_job_stores_goes_on_until_the_job_has_ended(strays: Strays, bench: Bench) -> None:
    job, stranger = bench.submit(), new_id("job")
    at = [keys.artifact_key(PROJECT, job_id, 1, "model.keras") for job_id in (job.id, stranger)]
    uploads = [bench.storage.create_multipart(key) for key in at]
    strays.sweep()
    assert [is_open(bench.storage, *each) for each in zip(at, uploads, strict=True)] == [True, False]
    bench.store.request_cancel(PROJECT, job.id)
    strays.sweep()
    assert not is_open(bench.storage, at[0], uploads[0])


def test_one_looks_in_each_sixth_of_the_age(
    settings: Settings, redis_client: redis.Redis, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    monkeypatch.setattr(Strays, "sweep", lambda self: looks.append("look"))
    hour = settings.model_copy(update={"stray_upload_s": 3600.0})
    for _ in range(2):
        Strays(hour, redis_client, storage).turn()
    assert looks == ["look"]
    assert 595 < redis_client.ttl("fw:strays:looked") <= 600


def test_while_storage_is_away_nothing_is_forgotten(at_once: Settings, redis_client: redis.Redis) -> None:
    nowhere = at_once.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"})
    redis_client.zadd(SENDING, {a_key(): 0})
    with pytest.raises(StorageUnavailable):
        Strays(at_once, redis_client, Storage(nowhere)).sweep()
    assert redis_client.zcard(SENDING) == 1


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
