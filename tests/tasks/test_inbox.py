"""Objects that others put into the bucket: found page by page, and each adopted once, whole or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from tasks import gate, keys, locks
from tasks.identifiers import new_id
from tasks.inbox import Inbox
from tasks.intake import FileRefused, Intake
from tasks.limits import ProjectLimits
from tasks.records import ModelRecord
from tasks.recordstore import RecordStore
from tasks.retention.removal import Removal
from tasks.settings import Settings
from tasks.storage import Storage, StorageUnavailable
from tasks.strays import Strays
from tasks.usage import Accounts
from tests.gate.keras_files import FILES as KERAS_FILES
from tests.service.helpers import KERAS, NPZ, sha256
from tests.service.models import dense_model


@pytest.fixture
def project() -> str:
    """One of this test alone: storage is shared by all tests of a session."""
    return new_id("key").replace("key_", "p-")


@pytest.fixture
def inbox(settings: Settings, redis_client: redis.Redis, storage: Storage) -> Inbox:
    return Inbox(settings, redis_client, storage)


@pytest.fixture
def put(storage: Storage, project: str) -> Callable[..., None]:
    def put(name: str, data: bytes = KERAS) -> None:
        storage.put_bytes(keys.inbox_prefix(project) + name, data)

    return put


def refused(code: str, inbox: Inbox, project: str, name: str, **options: str) -> str:
    with pytest.raises(FileRefused) as caught:
        inbox.adopt(project, name, "model", **options)
    assert caught.value.problem.code == code, caught.value.problem
    return caught.value.problem.detail


def stored(storage: Storage, project: str) -> list[str]:
    return storage.list_keys(f"projects/{project}/")


NAMES = ["a", "a b", "a-b", "a/b", "a/c/d.keras", "a.txt", "b/ü x+y&%20.keras", "b/z", "c", "dir/"]


def test_every_object_is_on_one_page_and_folders_are_none(
    inbox: Inbox, project: str, put: Callable[..., None]
) -> None:
    for name in NAMES:
        put(name, b"x" * (not name.endswith("/")))
    put_elsewhere = f"{project}x"
    whole = [found.name for found in inbox.scan(project)]
    assert sorted(whole) == sorted(NAMES[:-1])
    for size in (1, 2, 3):
        seen: list[str] = []
        while page := inbox.list(project, after=seen[-1] if seen else None, limit=size):
            assert len(page) <= size
            seen += [found.name for found in page]
        assert seen == whole
    assert [found.name for found in inbox.list(project, "b/")] == [name for name in whole if name[:2] == "b/"]
    assert inbox.list(put_elsewhere) == []


def test_an_object_is_adopted_once_while_it_and_what_was_made_of_it_are_there(
    inbox: Inbox, project: str, put: Callable[..., None], storage: Storage, settings: Settings,
    redis_client: redis.Redis,
) -> None:  # fmt: skip
    put("nets/le net.keras")
    record = inbox.adopt(project, "nets/le net.keras", "model")
    assert (record.filename, record.format, record.bytes) == ("le net.keras", "keras_zip", len(KERAS))
    assert record.sha256 == sha256(KERAS)
    assert storage.read(record.key) == KERAS
    assert storage.get_json(keys.model_record_key(project, record.id))["id"] == record.id
    again = Inbox(settings, redis_client, storage).adopt(project, "nets/le net.keras", "model")
    assert again == record
    assert Accounts(redis_client, settings).usage(project).stored_bytes == len(KERAS)
    # Another object under the same name is another model, and the first one stays.
    put("nets/le net.keras", dense_model())
    other = inbox.adopt(project, "nets/le net.keras", "model")
    assert other.id != record.id
    assert storage.read(record.key) == KERAS
    # Removed, it can be adopted again.
    assert Removal(settings, redis_client, storage).remove_file("model", project, other.id)
    assert inbox.adopt(project, "nets/le net.keras", "model").created_at > other.created_at
    assert not redis_client.exists("fw:leftovers")


def test_the_same_bytes_under_two_names_or_in_two_projects_are_two_models(
    inbox: Inbox, project: str, put: Callable[..., None], storage: Storage
) -> None:
    put("a.keras")
    put("b.keras")
    storage.put_bytes(keys.inbox_prefix(f"{project}-2") + "a.keras", KERAS)
    made = {inbox.adopt(project, name, "model").id for name in ("a.keras", "b.keras")}
    made.add(inbox.adopt(f"{project}-2", "a.keras", "model").id)
    assert len(made) == 3


def test_a_data_set_is_adopted_as_one(inbox: Inbox, project: str, put: Callable[..., None]) -> None:
    put("d.npz", NPZ)
    record = inbox.adopt(project, "d.npz", "dataset")
    assert (record.object, record.format) == ("dataset", "npz")


def test_many_at_once_make_one(
    inbox: Inbox, project: str, put: Callable[..., None], settings: Settings, redis_client: redis.Redis,
    storage: Storage, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    put("a.keras")
    copies = []
    put_stream = Storage.put_stream

    def counted(self: Storage, *args: object, **options: object) -> object:
        copies.append(1)
        return put_stream(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Storage, "put_stream", counted)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: inbox.adopt(project, "a.keras", "model"), range(8)))
    assert len({record.id for record in made}) == 1
    assert len(copies) == 1
    records = RecordStore(redis_client, "model", ModelRecord)
    assert [record.id for record in records.list(project)[0]] == [made[0].id]


@pytest.mark.parametrize(
    "name",
    ["../other/a.keras", "a/../b", "/a", "a//b", "a/", "a\nb", "a\\b", "\ud800", "n" * 256, "n/" * 500 + "n"],
    ids=["up", "inside", "root", "empty-part", "folder", "newline", "backslash", "surrogate", "long", "deep"],
)
def test_names_that_are_none_of_a_file_are_refused(inbox: Inbox, project: str, name: str) -> None:
    refused("invalid_request", inbox, project, name)


@pytest.mark.parametrize("prefix", ["..", "a/../", "/", "a\x00", "x" * 900])
def test_prefixes_that_no_name_has_are_refused(inbox: Inbox, project: str, prefix: str) -> None:
    with pytest.raises(FileRefused) as caught:
        inbox.list(project, prefix)
    assert caught.value.problem.code == "invalid_request"


def test_what_cannot_be_adopted_leaves_nothing(
    settings: Settings, redis_client: redis.Redis, storage: Storage, project: str, put: Callable[..., None],
    tmp_path: Path,
) -> None:  # fmt: skip
    judged = settings.model_copy(update={"max_gate_bytes": 1 << 20, "max_model_bytes": 20_000})
    inbox = Inbox(judged, redis_client, storage)
    put("text", b"no model at all")
    put("empty", b"")
    put("large.keras", dense_model(units=8192))
    put("lambda.h5", KERAS_FILES["tk_lambda_h5"][1](tmp_path / "canary", tmp_path))
    refused("object_not_found", inbox, project, "none.keras")
    refused("unknown_file_type", inbox, project, "text")
    refused("unknown_file_type", inbox, project, "empty")
    refused("object_too_large", inbox, project, "large.keras")
    inbox = Inbox(judged.model_copy(update={"max_model_bytes": 1 << 20}), redis_client, storage)
    refused("layer_not_allowed", inbox, project, "lambda.h5")
    ProjectLimits(redis_client, settings).change(project, {"stored_bytes": 10})
    put("a.keras")
    refused("storage_quota_exceeded", inbox, project, "a.keras")
    assert stored(storage, project) == []
    assert Accounts(redis_client, settings).usage(project).stored_bytes == 0
    assert not redis_client.exists("fw:leftovers")


def test_an_adopted_model_was_judged(
    settings: Settings, redis_client: redis.Redis, storage: Storage, project: str, put: Callable[..., None]
) -> None:
    put("net.keras", dense_model())
    inbox = Inbox(settings.model_copy(update={"max_gate_bytes": 1 << 20}), redis_client, storage)
    assert inbox.adopt(project, "net.keras", "model").gated == gate.VERSION


def test_an_object_that_changes_is_not_adopted_in_halves(
    inbox: Inbox, project: str, put: Callable[..., None], storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("a.keras")
    etag = inbox.stat(project, "a.keras").etag
    put("a.keras", dense_model())
    refused("object_changed", inbox, project, "a.keras", etag=etag)
    # Between the look and the copy.
    stat = Storage.stat
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "stat", lambda *args: stat(*args)._replace(etag=etag))
        refused("object_changed", inbox, project, "a.keras")
    # While it is copied.
    stream = Storage.stream

    def overwritten(self: Storage, key: str, *, etag: str | None = None) -> Iterator[bytes]:
        yield from stream(self, key, etag=etag)
        put("a.keras")

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "stream", overwritten)
        refused("object_changed", inbox, project, "a.keras")
    assert stored(storage, project) == []


def test_who_finds_somebody_copying_waits_and_then_asks_to_try_again(
    inbox: Inbox, project: str, put: Callable[..., None], redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    put("a.keras")
    at_work, go_on = threading.Event(), threading.Event()
    stream = Storage.stream

    def slow(self: Storage, key: str, *, etag: str | None = None) -> Iterator[bytes]:
        at_work.set()
        assert go_on.wait(30)
        yield from stream(self, key, etag=etag)

    monkeypatch.setattr(Storage, "stream", slow)
    monkeypatch.setattr("tasks.inbox._WAIT_S", 0.1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(inbox.adopt, project, "a.keras", "model")
        assert at_work.wait(30)
        refused("overloaded", inbox, project, "a.keras")
        go_on.set()
        made = first.result()
    assert inbox.adopt(project, "a.keras", "model") == made
    with pytest.raises(locks.Busy), locks.held(redis_client, "x"), locks.held(redis_client, "x"):
        pass


def test_storage_that_goes_away_keeps_nothing(
    inbox: Inbox, project: str, put: Callable[..., None], storage: Storage, redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    put("a.keras")

    def away(*_: object, **__: object) -> None:
        raise StorageUnavailable("away")

    monkeypatch.setattr("tasks.leftovers._REST_S", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "put_json", away)
        patch.setattr(Storage, "delete", away)
        with pytest.raises(StorageUnavailable):
            inbox.adopt(project, "a.keras", "model")
    assert redis_client.zcard("fw:leftovers") == 2
    Intake(inbox._settings, redis_client, storage).leftovers.sweep()
    assert stored(storage, project) == []
    assert inbox.adopt(project, "a.keras", "model").bytes == len(KERAS)


def test_parts_that_a_killed_process_left_are_forgotten(
    inbox: Inbox, project: str, put: Callable[..., None], storage: Storage, redis_client: redis.Redis,
    settings: Settings, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    put("a.keras")

    class Killed(BaseException):
        """Nothing can be done any more."""

    def begun(self: Storage, chunks: object, key: str, **options: object) -> None:
        self.create_multipart(key)
        raise Killed

    def left() -> int:
        return len(list(storage.list_uploads(f"projects/{project}/")))

    for recovery in ("again", "sweep"):
        with monkeypatch.context() as patch:
            patch.setattr(Storage, "put_stream", begun)
            with pytest.raises(Killed):
                inbox.adopt(project, "a.keras", "model")
        assert left() == 1
        if recovery == "again":
            record = inbox.adopt(project, "a.keras", "model")
            assert Removal(settings, redis_client, storage).remove_file("model", project, record.id)
        else:
            for key in ("fw:sending", "fw:leftovers"):
                redis_client.zadd(key, dict.fromkeys(redis_client.zrange(key, 0, -1), 0.0))
            Intake(settings, redis_client, storage).leftovers.sweep()
            at_once = settings.model_copy(update={"stray_upload_s": 0})
            Strays(at_once, redis_client, storage).sweep()
        assert left() == 0
        assert not redis_client.exists("fw:sending", "fw:leftovers")
    assert stored(storage, project) == []
