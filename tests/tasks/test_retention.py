"""What goes when its time is over or somebody asks: all of it, never what is needed, whenever cut off."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime

import pytest
import redis

from featherweight.job import Artifact
from tasks import keys
from tasks.identifiers import new_id
from tasks.limits import ProjectLimits
from tasks.listeners import attendants
from tasks.queue import Queue
from tasks.reaper import Reaper
from tasks.records import JobRecord, ModelRecord, Outcome, UploadRecord
from tasks.recordstore import NotFound, RecordStore
from tasks.retention.removal import REMOVING, Removal
from tasks.retention.sweeper import Sweeper
from tasks.settings import Settings
from tasks.settle import Settler
from tasks.storage import Storage, StorageUnavailable
from tasks.store import Conflict, JobStore
from tasks.submission import SubmissionRefused, Submitter
from tasks.uploads import Uploads
from tasks.usage import Accounts
from tasks.uses import Uses
from tests.tasks.conftest import request, submit

FILES = {"model.tflite": b"small", "report.json": b"{}"}


class Shelf:
    """A project of this test alone – storage is shared by all tests of a session – and what lies in it."""

    def __init__(self, settings: Settings, client: redis.Redis, storage: Storage, store: JobStore) -> None:
        self.project = new_id("key").replace("key_", "p-")
        self.settings, self.client, self.storage, self.store = settings, client, storage, store
        self.models = RecordStore(client, "model", ModelRecord)
        self.accounts = Accounts(client, settings)
        self.removal = Removal(settings, client, storage)
        self.sweeper = Sweeper(settings, client, storage)
        self.uses = Uses(client)

    def keep_for(self, **seconds: int) -> None:
        ProjectLimits(self.client, self.settings).change(self.project, seconds)

    def queued(self) -> JobRecord:
        job = submit(self.client, self.store, self.storage, project=self.project)
        self.storage.put_json(keys.job_key(self.project, job.id), {"id": job.id})
        self.storage.put_json(keys.model_record_key(self.project, job.model_id), {"id": job.model_id})
        self.accounts.keep(self.project, job.model_id, 20)
        return job

    def ended(self) -> JobRecord:
        """A job that has made two files and a log, and is settled."""
        claim = self.store.claim(self.queued().id, "worker")
        assert claim is not None
        made = []
        for name, data in {**FILES, "log.txt": b"done"}.items():
            self.storage.put_bytes(keys.artifact_key(self.project, claim.job_id, 1, name), data)
            if name in FILES:
                made.append(Artifact(name=name, format="bin", bytes=len(data), sha256="0" * 64))
        self.store.finalizing(claim)
        assert self.store.commit(claim, Outcome.succeeded(made, None))
        job = self.store.get(self.project, claim.job_id)
        Settler(self.store, self.storage).settle(job)
        return self.store.get(self.project, job.id)

    def round(self, turns: int = 1) -> None:
        for _ in range(turns):
            self.sweeper.turn()

    def keys(self, folder: str = "") -> set[str]:
        prefix = f"projects/{self.project}/{folder}"
        return {key.removeprefix(prefix) for key in self.storage.list_keys(prefix)}

    def has(self, job: JobRecord) -> bool:
        return self.store.find(job.id) is not None

    def has_model(self, job: JobRecord) -> bool:
        try:
            return self.models.get(self.project, job.model_id) is not None
        except NotFound:
            return False

    @property
    def stored_bytes(self) -> int:
        return self.accounts.usage(self.project).stored_bytes


@pytest.fixture
def shelf(settings: Settings, redis_client: redis.Redis, storage: Storage, store: JobStore) -> Shelf:
    return Shelf(settings, redis_client, storage, store)


def traces(client: redis.Redis, job: JobRecord) -> list[bytes]:
    """Every key in Redis that still names the job; asks as somebody who may look at all."""
    name = job.id.encode()
    inside = {
        b"zset": lambda key: client.zscore(key, name) is not None,
        b"set": lambda key: client.sismember(key, name),
        b"hash": lambda key: client.hexists(key, name),
    }
    return [
        key
        for key in client.scan_iter("fw:*")
        if not key.startswith(b"fw:claimed:")
        and (name in key or inside.get(client.type(key), lambda _: False)(key))
    ]


# On request


def test_a_job_that_is_removed_leaves_nothing(shelf: Shelf, redis_admin: redis.Redis) -> None:
    job, other = shelf.ended(), shelf.ended()
    before = shelf.stored_bytes
    assert shelf.removal.remove_job(shelf.project, job.id)
    assert not shelf.has(job)
    assert shelf.keys(f"jobs/{job.id}/") == set()
    assert traces(redis_admin, job) == []
    assert before - shelf.stored_bytes == sum(map(len, FILES.values()))
    assert [left.id for left in shelf.store.list(shelf.project)[0]] == [other.id]
    assert shelf.keys(f"jobs/{other.id}/") >= {"job.json", "result.json", "a1/model.tflite", "a1/log.txt"}
    with pytest.raises(NotFound):
        shelf.removal.remove_job(shelf.project, job.id)


def test_a_job_that_has_not_ended_or_of_another_project_is_not_removed(shelf: Shelf) -> None:
    job = shelf.queued()
    with pytest.raises(Conflict, match="has not ended") as caught:
        shelf.removal.remove_job(shelf.project, job.id)
    assert caught.value.code == "job_not_done"
    shelf.store.request_cancel(shelf.project, job.id)
    # Whoever wants to know of its end has not been told.
    with pytest.raises(Conflict):
        shelf.removal.remove_job(shelf.project, job.id)
    with pytest.raises(NotFound):
        shelf.removal.remove_job("other", job.id)
    for odd in ("", "../x", "a:b", "x" * 200):
        with pytest.raises(NotFound):
            shelf.removal.remove_job(shelf.project, odd)
    Settler(shelf.store, shelf.storage).settle(shelf.store.get(shelf.project, job.id))
    assert shelf.removal.remove_job(shelf.project, job.id)


def test_a_model_that_is_needed_is_not_removed(shelf: Shelf) -> None:
    job = shelf.queued()
    with pytest.raises(Conflict, match=job.id) as caught:
        shelf.removal.remove_file("model", shelf.project, job.model_id)
    assert caught.value.code == "resource_in_use"
    shelf.store.request_cancel(shelf.project, job.id)
    shelf.uses.hold(shelf.project, job.model_id, "bat_1")
    with pytest.raises(Conflict, match="bat_1"):
        shelf.removal.remove_file("model", shelf.project, job.model_id)
    shelf.uses.release(shelf.project, job.model_id, "bat_1")
    before = shelf.stored_bytes
    assert shelf.removal.remove_file("model", shelf.project, job.model_id)
    assert not shelf.has_model(job)
    assert shelf.keys("models/") == set()
    assert before - shelf.stored_bytes == 20


def test_data_sets_are_needed_too_and_jobs_that_could_not_be_submitted_need_nothing(
    shelf: Shelf, store: JobStore
) -> None:
    wanted = request("mdl_a").model_copy(update={"dataset_id": "ds_a"})
    job = store.create(shelf.project, wanted, job_id=new_id("job"))
    assert shelf.uses.of(shelf.project, "mdl_a") == shelf.uses.of(shelf.project, "ds_a") == [job.id]
    assert store.discard(shelf.project, job.id)
    assert shelf.uses.of(shelf.project, "mdl_a") == shelf.uses.of(shelf.project, "ds_a") == []


def test_a_job_whose_model_is_removed_while_it_is_submitted_is_refused(
    shelf: Shelf, settings: Settings, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_id = shelf.ended().model_id
    submitter = Submitter.of(settings, shelf.client, shelf.storage, queue)
    create = JobStore.create

    def removed_first(store: JobStore, *args: object, **options: object) -> JobRecord:
        shelf.removal.remove_file("model", shelf.project, model_id)
        return create(store, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(JobStore, "create", removed_first)
    job_id = new_id("job")
    wanted = request(model_id).model_copy(update={"spec": request().spec})
    with pytest.raises(SubmissionRefused) as caught:
        submitter.submit(shelf.project, wanted, job_id=job_id)
    assert caught.value.problem.errors[0].code == "not_found"
    assert shelf.store.find(job_id) is None


# By age


def test_nothing_goes_that_is_kept_for_ever(shelf: Shelf) -> None:
    job = shelf.ended()
    before = shelf.keys()
    shelf.round(3)
    assert shelf.has(job)
    assert shelf.keys() == before
    assert shelf.sweeper.progress().removed == {}


def test_each_kind_goes_at_its_age_and_no_sooner(shelf: Shelf) -> None:
    job = shelf.ended()
    shelf.keep_for(artifacts_ttl_s=1, models_ttl_s=3600, jobs_ttl_s=3600)
    shelf.round()
    assert not shelf.store.get(shelf.project, job.id).artifacts_expired_at
    time.sleep(1.1)
    shelf.round()
    expired = shelf.store.get(shelf.project, job.id)
    assert expired.artifacts_expired_at is not None
    assert expired.version != job.version
    assert [artifact.name for artifact in expired.artifacts] == list(FILES)
    assert shelf.keys(f"jobs/{job.id}/") == {"job.json", "result.json"}
    stored = shelf.storage.get_json(keys.result_key(shelf.project, job.id))
    assert datetime.fromisoformat(stored["artifacts_expired_at"]) == expired.artifacts_expired_at
    assert shelf.stored_bytes == 20
    shelf.round()
    assert shelf.sweeper.progress().removed == {"artifacts": 1}
    # What was changed holds for what is there.
    shelf.keep_for(models_ttl_s=1, jobs_ttl_s=1)
    shelf.round()
    assert not shelf.has(job)
    assert not shelf.has_model(job)
    assert shelf.keys() == set()
    assert shelf.stored_bytes == 0
    assert shelf.sweeper.progress().removed == {"artifacts": 1, "jobs": 1, "models": 1}


def test_what_is_needed_outlives_its_age(shelf: Shelf) -> None:
    ended, job = shelf.ended(), shelf.queued()
    running = shelf.store.get(shelf.project, job.id)
    shelf.uses.hold(shelf.project, ended.id, "bat_1")
    shelf.keep_for(models_ttl_s=1, jobs_ttl_s=1, artifacts_ttl_s=1)
    time.sleep(1.1)
    shelf.round(2)
    assert shelf.has_model(running)
    assert shelf.has(job)
    assert shelf.has(ended)
    assert not shelf.has_model(ended)
    shelf.uses.release(shelf.project, ended.id, "bat_1")
    shelf.round()
    assert not shelf.has(ended)


def test_a_job_that_nobody_settled_is_kept_until_somebody_has(shelf: Shelf) -> None:
    job = shelf.queued()
    shelf.store.request_cancel(shelf.project, job.id)
    shelf.keep_for(jobs_ttl_s=1, artifacts_ttl_s=1)
    time.sleep(1.1)
    shelf.round()
    assert shelf.has(job)
    Settler(shelf.store, shelf.storage).settle(shelf.store.get(shelf.project, job.id))
    shelf.round()
    assert not shelf.has(job)


def test_it_goes_on_where_it_was_through_pages_lists_and_projects(
    shelf: Shelf, settings: Settings, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.retention.sweeper._PAGE", 2)
    monkeypatch.setattr("tasks.retention.sweeper._LOOKED_AT_ONCE", 3)
    other = Shelf(settings, shelf.client, shelf.storage, store)
    jobs = [each.ended() for each in (shelf, other) for _ in range(5)]
    for each in (shelf, other):
        each.keep_for(jobs_ttl_s=1, models_ttl_s=1)
    time.sleep(1.1)
    shelf.round()
    left = sum(map(shelf.has, jobs))
    assert 10 - 4 <= left < 10
    # Another process has the next turns.
    turns = 0
    while any(map(shelf.has, jobs)) or shelf.keys("models/") or other.keys("models/"):
        Sweeper(settings, shelf.client, shelf.storage).turn()
        turns += 1
        assert turns < 40
    assert turns > 3
    assert shelf.sweeper.progress().removed == {"jobs": 10, "models": 10}


def test_a_turn_that_takes_long_is_cut_short(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [shelf.ended() for _ in range(3)]
    shelf.keep_for(jobs_ttl_s=1)
    time.sleep(1.1)
    monkeypatch.setattr("tasks.retention.sweeper._BUDGET_S", 0.0)
    counts = []
    while any(map(shelf.has, jobs)):
        shelf.round()
        counts.append(sum(map(shelf.has, jobs)))
        assert len(counts) < 60
    assert {2, 1, 0} <= set(counts)


def test_it_can_be_stopped_and_resumed_for_all(shelf: Shelf, settings: Settings) -> None:
    job = shelf.ended()
    shelf.keep_for(jobs_ttl_s=1)
    time.sleep(1.1)
    shelf.sweeper.stop()
    other = Sweeper(settings, shelf.client, shelf.storage)
    other.turn()
    stopped = other.progress()
    assert (stopped.running, shelf.has(job)) == (False, True)
    assert stopped.stopped_at is not None
    assert abs((datetime.now(UTC) - stopped.stopped_at).total_seconds()) < 60
    other.stop()
    assert other.progress().stopped_at == stopped.stopped_at
    other.resume()
    shelf.round()
    assert not shelf.has(job)
    assert shelf.sweeper.progress().running


# Cut off at any point


class Killed(BaseException):
    """Nothing can be done any more."""


def cut_off_after(calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever works with Redis or storage is killed before the next call."""
    left = calls

    def counted(inner: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return inner(*args, **options)

        return call

    for name in ("delete", "delete_prefix", "put_json", "list_keys"):
        monkeypatch.setattr(Storage, name, counted(getattr(Storage, name)))
    monkeypatch.setattr(redis.Redis, "execute_command", counted(redis.Redis.execute_command))


@pytest.mark.parametrize("what", ["jobs", "artifacts", "models"])
def test_killed_before_any_call_nothing_half_removed_is_shown_and_the_rest_goes_later(
    shelf: Shelf, what: str, settings: Settings
) -> None:
    shelf.keep_for(**{f"{what}_ttl_s": 1})
    calls, finished = 0, False
    while not finished:
        job = aged(shelf, shelf.ended())
        with pytest.MonkeyPatch.context() as patch:
            cut_off_after(calls, patch)
            try:
                Sweeper(settings, shelf.client, shelf.storage).turn()
                finished = True
            except Killed:
                pass
        calls += 1
        shown_whole(shelf, job)
        # As they would be after a minute.
        shelf.client.delete(*[f"fw:lock:adopt:{each}" for each in (job.id, job.model_id)])
        shelf.round(2)
        shown_whole(shelf, job)
        left = shelf.keys()
        assert shelf.client.zcard(REMOVING) == 0
        assert shelf.has(job) == (what != "jobs")
        assert shelf.has_model(job) == (what != "models")
        assert any(key.startswith("models/") for key in left) == (what != "models")
        assert any("/a1/" in key for key in left) == (what == "models")
        made = sum(map(len, FILES.values()))
        assert shelf.stored_bytes == (made if what == "models" else 20)
        clear_away(shelf, job)
    assert calls > 8


def aged(shelf: Shelf, job: JobRecord) -> JobRecord:
    """The job and its model, as if they were older."""
    shelf.client.hset(f"fw:job:{job.id}", "ended_at", time.time() - 5)
    model = shelf.models.get(shelf.project, job.model_id)
    shelf.models.put(shelf.project, model.model_copy(update={"created_at": datetime.fromtimestamp(1, UTC)}))
    for list_, member in (("jobs", job.id), ("models", job.model_id)):
        shelf.client.zadd(f"fw:{list_}:{shelf.project}", {member: (time.time() - 10) * 1e6}, xx=True)
    return job


def clear_away(shelf: Shelf, job: JobRecord) -> None:
    with suppress(NotFound):
        shelf.removal.remove_job(shelf.project, job.id)
    with suppress(NotFound):
        shelf.removal.remove_file("model", shelf.project, job.model_id)
    assert shelf.keys() == set()


def shown_whole(shelf: Shelf, job: JobRecord) -> None:
    """Whatever can be seen is there."""
    found = shelf.store.find(job.id)
    if found is not None and found.artifacts_expired_at is None:
        assert shelf.keys(f"jobs/{job.id}/") >= {"job.json", "result.json", "a1/log.txt", "a1/model.tflite"}
    if shelf.has_model(job):
        assert shelf.keys(f"models/{job.model_id}/") >= {f"{job.model_id}.bin", "model.json"}


def test_storage_that_is_away_is_waited_for(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    job = shelf.ended()

    def away(*_: object) -> None:
        raise StorageUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "delete", away)
        assert not shelf.removal.remove_job(shelf.project, job.id)
        assert not shelf.has(job)
        assert shelf.stored_bytes > 20
        with pytest.raises(StorageUnavailable):
            shelf.sweeper.turn()
    progress = shelf.sweeper.progress()
    assert progress.removing == 1
    assert progress.removing_since is not None
    shelf.round()
    assert shelf.keys(f"jobs/{job.id}/") == set()
    assert shelf.stored_bytes == 20
    assert shelf.sweeper.progress().removing == 0


def test_an_object_that_is_adopted_again_is_not_removed_with_the_bytes_of_before(
    shelf: Shelf, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.inbox import Inbox
    from tests.service.helpers import KERAS

    shelf.storage.put_bytes(keys.inbox_prefix(shelf.project) + "a.keras", KERAS)
    inbox = Inbox(settings.model_copy(update={"max_gate_bytes": 0}), shelf.client, shelf.storage)
    record = inbox.adopt(shelf.project, "a.keras", "model")

    def away(*_: object) -> None:
        raise StorageUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "delete", away)
        assert not shelf.removal.remove_file("model", shelf.project, record.id)
    again = inbox.adopt(shelf.project, "a.keras", "model")
    assert again.id == record.id
    shelf.round()
    assert shelf.storage.read(again.key) == KERAS
    assert shelf.stored_bytes == len(KERAS)


def test_uploads_that_expired_are_given_up_and_those_that_were_made_stay(
    shelf: Shelf, settings: Settings
) -> None:
    uploads, made = Uploads(settings, shelf.client, shelf.storage), shelf.ended()
    begun = {}
    for upload_id, model_id in (("upl_a", new_id("model")), ("upl_b", made.model_id)):
        key = keys.model_key(shelf.project, model_id)
        begun[upload_id] = UploadRecord(
            id=upload_id,
            kind="model",
            state="open",
            filename="m.keras",
            size=5,
            sha256="0" * 64,
            part_size=5 << 20,
            created_at=datetime.fromtimestamp(0, UTC),
            expires_at=datetime.fromtimestamp(1, UTC),
            project=shelf.project,
            key=key,
            s3_upload_id=shelf.storage.create_multipart(key),
        )
        uploads.save(begun[upload_id])
    shelf.accounts.keep(shelf.project, "upl_a", 5)
    before = shelf.keys()
    shelf.round()
    records = RecordStore(shelf.client, "upload", UploadRecord)
    assert records.get(shelf.project, "upl_a").state == "aborted"
    # Killed between making the model and saying so: the model is not taken back.
    assert records.get(shelf.project, "upl_b").resource_id == made.model_id
    assert shelf.keys() == before
    assert list(shelf.storage.list_uploads(f"projects/{shelf.project}/")) == []
    assert not shelf.client.exists("fw:uploads-expiring")
    assert not shelf.client.hexists(f"fw:stored:{shelf.project}", "upl_a")


@pytest.fixture(autouse=True)
def no_locks_are_left(redis_client: redis.Redis, request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "killed" not in request.node.name:
        assert not redis_client.exists("fw:leftovers")


def test_the_reaper_gives_the_sweeper_its_turns(shelf: Shelf, settings: Settings, queue: Queue) -> None:
    job = shelf.ended()
    shelf.keep_for(jobs_ttl_s=1)
    time.sleep(1.1)
    besides = attendants(settings, shelf.client, shelf.store, shelf.storage, queue)
    reaper = Reaper(settings, shelf.client, shelf.store, shelf.storage, queue, chores=besides.chores)
    reaper._look_if_my_turn()
    assert not shelf.has(job)
    looked = shelf.client.get("fw:reaper:looked")
    assert looked is not None
    assert abs(float(looked) - time.time()) < 60
