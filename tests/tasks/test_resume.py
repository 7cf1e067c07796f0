"""What a job has finished is in storage, and an attempt on another machine goes on from there."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tasks import keys
from tasks.joblog import JobLog
from tasks.lease import Lease, Reason
from tasks.records import Claim, JobRecord
from tasks.resume import keeper as keeping
from tasks.resume.index import Index, KeptFile
from tasks.resume.keeper import Keeper
from tasks.storage import Storage, StorageUnavailable
from tasks.supervisor import _hidden
from tests.tasks.conftest import PROJECT, Bench, eventually

STEP = "steps/" + "a" * 32
CHECKPOINT = f"checkpoints/{'b' * 32}.npz"


def progress(bench: Bench, job: JobRecord) -> set[str]:
    """Of the keys of a job, those of progress."""
    return {key for key in bench.keys(job) if key.startswith("progress/")}


def index_of(bench: Bench, job: JobRecord, attempt: int) -> Index | None:
    try:
        found = bench.storage.get_json(keys.progress_index_key(PROJECT, job.id, attempt))
    except FileNotFoundError:
        return None
    return Index.model_validate(found)


def paths(index: Index | None) -> set[str]:
    return {file.path for file in index.files} if index is not None else set()


@contextmanager
def running(bench: Bench, job: JobRecord, misbehaviour: str, **overrides: Any) -> Iterator[Any]:
    """The supervisor of an attempt that is at work; it has ended after the block."""
    supervisor = bench.supervisor(misbehaviour, progress_interval_s=0, **overrides)
    thread = threading.Thread(target=supervisor.run, args=(job.id,))
    thread.start()
    eventually(lambda: "began" in str(bench.store.events(PROJECT, job.id)))
    try:
        yield supervisor
    finally:
        supervisor.stop()
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, Any]:
    """Settings of another machine: what is on the disk of the first is not there."""
    return {"scratch_dir": tmp_path / "elsewhere", "progress_interval_s": 0}


def test_job_of_a_stopped_worker_goes_on_elsewhere_with_the_newest(
    bench: Bench, elsewhere: dict[str, Any]
) -> None:
    job = bench.submit()
    with running(bench, job, "keeps_progress"):
        # Nothing but what the runner keeps when it is told to stop is left to do.
        eventually(lambda: CHECKPOINT in paths(index_of(bench, job, 1)))
    stored = index_of(bench, job, 1)
    assert paths(stored) == {f"{STEP}/model.keras", f"{STEP}/step.json", CHECKPOINT}
    # What the newer checkpoint took the place of is gone.
    assert len(progress(bench, job)) == 4
    bench.supervisor("keeps_progress", **elsewhere).run(job.id)
    ended = bench.store.get(PROJECT, job.id)
    assert (ended.state, ended.attempt) == ("succeeded", 2), ended.error
    assert bench.storage.read(keys.artifact_key(PROJECT, job.id, 2, "model.tflite")) == b"after epoch 3"
    first, second = ended.public().attempts
    assert first.resumed_from is None
    assert second.resumed_from is not None
    assert (second.resumed_from.step, second.resumed_from.epoch, second.resumed_from.round) == (1, 3, None)
    assert "fetched from storage: 3 files" in bench.log(ended)
    assert bench.keys(job) == {"result.json", "a2/model.tflite", "a2/log.txt"}
    events = [event for _, event in bench.store.events(PROJECT, job.id) if event["type"] == "resumed"]
    assert events == [{"type": "resumed", "step": 1, "epoch": 3, "round": None}]


def test_job_of_a_lost_worker_goes_on_elsewhere_from_what_was_stored_last(
    bench: Bench, elsewhere: dict[str, Any]
) -> None:
    job = bench.submit()
    with running(bench, job, "keeps_progress"):
        eventually(lambda: CHECKPOINT in paths(index_of(bench, job, 1)))
        bench.client.zadd("fw:leases", {job.id: 0})
        assert bench.store.expire_leases() == [job.id]
        bench.supervisor("keeps_progress", **elsewhere).run(job.id)
    ended = bench.store.get(PROJECT, job.id)
    assert (ended.state, ended.attempt) == ("succeeded", 2)
    assert bench.storage.read(keys.artifact_key(PROJECT, job.id, 2, "model.tflite")) == b"after epoch 2"
    # And the first, which had lost the job, has left nothing of its own.
    assert bench.keys(job) == {"result.json", "a2/model.tflite", "a2/log.txt"}


def test_own_folder_is_gone_on_with_where_nothing_newer_is_stored(bench: Bench) -> None:
    job = bench.submit()
    with running(bench, job, "keeps_progress"):
        eventually(lambda: CHECKPOINT in paths(index_of(bench, job, 1)))
    for key in bench.storage.list_keys(keys.progress_prefix(PROJECT, job.id)):
        bench.storage.put_bytes(key, b"nobody reads this")
    bench.supervisor("keeps_progress").run(job.id)
    ended = bench.store.get(PROJECT, job.id)
    assert ended.state == "succeeded"
    assert bench.storage.read(keys.artifact_key(PROJECT, job.id, 2, "model.tflite")) == b"after epoch 3"
    assert "storage" not in bench.log(ended)


def test_own_folder_gives_way_to_what_a_later_attempt_stored_elsewhere(
    bench: Bench, elsewhere: dict[str, Any]
) -> None:
    job = bench.submit()
    with running(bench, job, "keeps_progress"):
        pass
    claim = bench.store.claim(job.id, "elsewhere")
    assert claim is not None
    store_progress(bench, claim, {CHECKPOINT: b"of attempt 2"})
    assert bench.store.release(claim, "worker_stopped")
    bench.supervisor("tells_work").run(job.id)
    assert found(bench, job, 3) == {CHECKPOINT: hashlib.sha256(b"of attempt 2").hexdigest()}


def test_own_folder_stays_where_what_is_newer_cannot_be_gone_on_with(bench: Bench) -> None:
    job = bench.submit()
    with running(bench, job, "keeps_progress"):
        pass
    claim = bench.store.claim(job.id, "elsewhere")
    assert claim is not None
    store_progress(bench, claim, {CHECKPOINT: b"of attempt 2"})
    bench.storage.put_bytes(keys.progress_file_key(PROJECT, job.id, 2, 1), b"damaged")
    assert bench.store.release(claim, "worker_stopped")
    bench.supervisor("keeps_progress").run(job.id)
    ended = bench.store.get(PROJECT, job.id)
    assert bench.storage.read(keys.artifact_key(PROJECT, job.id, 3, "model.tflite")) == b"after epoch 3"
    assert "what attempt 2 stored cannot be gone on with" in bench.log(ended)


def test_worker_stopped_before_anything_was_stored_stores_it(bench: Bench) -> None:
    job = bench.submit()
    supervisor = bench.supervisor("keeps_progress", progress_interval_s=3600)
    thread = threading.Thread(target=supervisor.run, args=(job.id,))
    thread.start()
    eventually(lambda: "began" in str(bench.store.events(PROJECT, job.id)))
    time.sleep(0.8)
    assert progress(bench, job) == set()
    supervisor.stop()
    thread.join(10)
    assert CHECKPOINT in paths(index_of(bench, job, 1))


class Spied(Storage):
    """Notes the keys that are written, and does `before` what it is told to first."""

    def __init__(self, bench: Bench, before: Callable[[str], None] = lambda key: None) -> None:
        super().__init__(bench.settings)
        self.written: list[str] = []
        self._before = before

    def put_bytes(self, key: str, data: bytes, **options: Any) -> None:
        self._before(key)
        super().put_bytes(key, data, **options)
        self.written.append(key)


def test_short_job_writes_nothing_of_it(bench: Bench) -> None:
    bench.storage = spied = Spied(bench)
    job = bench.submit(data=b"ends")
    bench.supervisor("keeps_progress").run(job.id)  # with the interval that operators have
    assert bench.store.get(PROJECT, job.id).state == "succeeded"
    assert not [key for key in spied.written if "/progress/" in key]


def test_where_it_is_switched_off_nothing_is_stored(bench: Bench, elsewhere: dict[str, Any]) -> None:
    job = bench.submit()
    with running(bench, job, "keeps_progress", max_progress_bytes=0):
        time.sleep(1)
    assert progress(bench, job) == set()


def test_storage_that_is_away_costs_no_job_and_is_asked_again(bench: Bench) -> None:
    tried: list[str] = []

    def away(key: str) -> None:
        if "/progress/" in key:
            tried.append(key)
            if len(tried) <= 2:
                raise StorageUnavailable("it is away")

    bench.storage = Spied(bench, away)
    job = bench.submit(data=b"ends")
    bench.supervisor("keeps_progress", progress_interval_s=0).run(job.id)
    ended = bench.store.get(PROJECT, job.id)
    assert (ended.state, ended.attempt) == ("succeeded", 1)
    assert "[warning] how far the job has got could not be stored: it is away" in bench.log(ended)
    assert len(tried) >= 2
    assert bench.keys(job) == {"result.json", "a1/model.tflite", "a1/log.txt"}


def test_upload_that_hangs_neither_holds_up_the_end_nor_leaves_anything(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "_GIVE_UP_S", 0.1)
    hangs, go_on = threading.Event(), threading.Event()

    def hang(key: str) -> None:
        if "/progress/" in key:
            hangs.set()
            go_on.wait(20)

    bench.storage = spied = Spied(bench, hang)
    job = bench.submit(data=b"ends")
    bench.supervisor("keeps_progress", progress_interval_s=0).run(job.id)
    assert hangs.is_set()
    assert bench.store.get(PROJECT, job.id).state == "succeeded"
    go_on.set()
    eventually(lambda: [key for key in spied.written if "/progress/" in key])
    eventually(lambda: bench.keys(job) == {"result.json", "a1/model.tflite", "a1/log.txt"})


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("symlink", "not a regular file"),
        ("pipe", "not a regular file"),
        ("hard_link", "more than one name"),
        ("holes", "larger than 1000000 bytes"),
        ("huge", "larger than 1000000 bytes"),
        ("name", "a name that is not allowed"),
        ("many", "more than 1000 files"),
        ("folder_link", "checkpoints: Not a directory"),
    ],
)
def test_what_a_job_plants_among_its_checkpoints_is_not_stored(
    bench: Bench, what: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Where nothing but the worker prevents it."""
    job = bench.submit(data=f"plants:{what}".encode())
    with running(bench, job, "keeps_progress", sandbox="external", max_progress_bytes=1_000_000):
        eventually(lambda: "how far the job has got is not stored: " in caplog.text)
    assert words in caplog.text
    assert index_of(bench, job, 1) is None
    bench.supervisor("tells_work", sandbox="external").run(job.id)
    assert bench.store.get(PROJECT, job.id).state == "succeeded"


def test_why_nothing_is_stored_stands_in_the_log(bench: Bench) -> None:
    job = bench.submit(data=b"ends")
    bench.supervisor("keeps_progress", progress_interval_s=0, max_progress_bytes=100).run(job.id)
    ended = bench.store.get(PROJECT, job.id)
    assert ended.state == "succeeded"
    assert "how far the job has got is not stored: it is larger than 100 bytes" in bench.log(ended)


def store_progress(bench: Bench, claim: Claim, files: dict[str, bytes]) -> None:
    """As an attempt would have."""
    kept = []
    for number, (path, content) in enumerate(files.items(), 1):
        key = keys.progress_file_key(PROJECT, claim.job_id, claim.attempt, number)
        bench.storage.put_bytes(key, content)
        sha256 = hashlib.sha256(content).hexdigest()
        kept.append(KeptFile(path=path, number=number, bytes=len(content), sha256=sha256))
    index = Index(job_id=claim.job_id, attempt=claim.attempt, files=kept)
    key = keys.progress_index_key(PROJECT, claim.job_id, claim.attempt)
    bench.storage.put_json(key, index.model_dump(mode="json"))


def found(bench: Bench, job: JobRecord, attempt: int) -> dict[str, str]:
    """What the attempt's runner found in its working folder."""
    content = bench.storage.read(keys.artifact_key(PROJECT, job.id, attempt, "found.json"))
    told: dict[str, str] = json.loads(content)
    return told


FILES = {f"{STEP}/step.json": b"{}", f"{STEP}/saved_model/variables/variables.index": b"v", CHECKPOINT: b"c"}


@pytest.fixture
def broken_off(bench: Bench) -> Claim:
    """A job whose first attempt was lost, on a machine that is gone."""
    job = bench.submit()
    claim = bench.store.claim(job.id, "gone")
    assert claim is not None
    return claim


def lose(bench: Bench, claim: Claim) -> None:
    bench.client.zadd("fw:leases", {claim.job_id: 0})
    assert bench.store.expire_leases() == [claim.job_id]


def test_files_are_fetched_as_they_were_and_belong_to_the_runner(bench: Bench, broken_off: Claim) -> None:
    store_progress(bench, broken_off, FILES)
    lose(bench, broken_off)
    bench.supervisor("tells_work").run(broken_off.job_id)
    expected = {path: hashlib.sha256(content).hexdigest() for path, content in FILES.items()}
    assert found(bench, broken_off.job, 2) == expected
    assert bench.keys(broken_off.job) == {"result.json", "a2/found.json", "a2/log.txt"}


Damage = Callable[[Bench, Claim], None]


def change_object(bench: Bench, claim: Claim) -> None:
    bench.storage.put_bytes(keys.progress_file_key(PROJECT, claim.job_id, 1, 3), b"C")


def lengthen_object(bench: Bench, claim: Claim) -> None:
    bench.storage.put_bytes(keys.progress_file_key(PROJECT, claim.job_id, 1, 3), b"c" * 1000)


def remove_object(bench: Bench, claim: Claim) -> None:
    bench.storage.delete(keys.progress_file_key(PROJECT, claim.job_id, 1, 2))


def cut_index_short(bench: Bench, claim: Claim) -> None:
    key = keys.progress_index_key(PROJECT, claim.job_id, 1)
    bench.storage.put_bytes(key, bench.storage.read(key)[:-9])


def another_index(**changes: Any) -> Damage:
    def damage(bench: Bench, claim: Claim) -> None:
        key = keys.progress_index_key(PROJECT, claim.job_id, 1)
        bench.storage.put_json(key, {**bench.storage.get_json(key), **changes})

    return damage


def file(path: str, **changes: Any) -> dict[str, Any]:
    sha256 = hashlib.sha256(b"{}").hexdigest()
    return {"path": path, "number": 1, "bytes": 2, "sha256": sha256, **changes}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(change_object, f"the sha256 of {CHECKPOINT} differs", id="changed"),
        pytest.param(lengthen_object, f"{CHECKPOINT} is of another size", id="lengthened"),
        pytest.param(remove_object, "a file is missing", id="missing"),
        pytest.param(cut_index_short, "its index cannot be read", id="cut_short"),
        pytest.param(another_index(job_id="job_another"), "it is another job's", id="another_job"),
        pytest.param(another_index(attempt=7), "it is another job's", id="another_attempt"),
        pytest.param(another_index(version=2), "its index cannot be read", id="another_version"),
        pytest.param(
            another_index(files=[file("steps/../../../task.json")]), "cannot be read", id="leads_elsewhere"
        ),
        pytest.param(another_index(files=[file("/etc/passwd")]), "cannot be read", id="absolute"),
        pytest.param(another_index(files=[file("out/model.tflite")]), "cannot be read", id="no_progress"),
        pytest.param(
            another_index(files=[file("steps/a/b"), file("steps/a/b")]), "cannot be read", id="twice"
        ),
        pytest.param(
            another_index(files=[file("steps/a"), file("steps/a/b")]),
            "steps/a/b is a file and a folder",
            id="file_and_folder",
        ),
        pytest.param(
            another_index(files=[file("steps/a/b", bytes=10**12)]), "it is larger than", id="too_large"
        ),
    ],
)
def test_damaged_or_foreign_progress_is_told_of_and_the_job_begins_anew(
    bench: Bench, broken_off: Claim, damage: Damage, words: str
) -> None:
    store_progress(bench, broken_off, FILES)
    damage(bench, broken_off)
    lose(bench, broken_off)
    bench.supervisor("tells_work").run(broken_off.job_id)
    ended = bench.store.get(PROJECT, broken_off.job_id)
    assert ended.state == "succeeded", ended.error
    assert found(bench, ended, 2) == {}
    log = bench.log(ended)
    assert "[warning] what attempt 1 stored cannot be gone on with: " in log
    assert words in log
    assert bench.keys(ended) == {"result.json", "a2/found.json", "a2/log.txt"}


def test_progress_without_an_index_is_none(bench: Bench, broken_off: Claim) -> None:
    """The worker was killed before it was complete."""
    store_progress(bench, broken_off, FILES)
    bench.storage.delete(keys.progress_index_key(PROJECT, broken_off.job_id, 1))
    lose(bench, broken_off)
    bench.supervisor("tells_work").run(broken_off.job_id)
    assert found(bench, broken_off.job, 2) == {}


def test_newest_complete_progress_is_taken(bench: Bench, broken_off: Claim) -> None:
    job = broken_off.job
    store_progress(bench, broken_off, {CHECKPOINT: b"first"})
    lose(bench, broken_off)
    second = bench.store.claim(job.id, "gone too")
    assert second is not None
    store_progress(bench, second, {CHECKPOINT: b"second"})
    # The first comes back to life and writes once more, what it cannot know is out of date.
    store_progress(bench, broken_off, {CHECKPOINT: b"stale"})
    assert bench.store.release(second, "worker_stopped")
    bench.supervisor("tells_work").run(job.id)
    assert found(bench, job, 3) == {CHECKPOINT: hashlib.sha256(b"second").hexdigest()}


class Kept:
    """A keeper, without a runner, over a folder in which a test writes."""

    def __init__(self, bench: Bench, tmp_path: Path, claim: Claim) -> None:
        settings = bench.settings.model_copy(update={"progress_interval_s": 0.0})
        self.folder = tmp_path / "folder"
        (self.folder / "work" / "checkpoints").mkdir(parents=True)
        self.lease = Lease(claim, bench.store, settings, threading.Event())
        self.log = JobLog(_hidden(self.folder))
        parts = (settings, bench.store, bench.storage)
        self.keeper = Keeper(*parts, claim, self.folder, self.lease, self.log, owner=None)

    def write(self, content: bytes) -> None:
        path = self.folder / "work" / CHECKPOINT
        path.with_suffix(".part").write_bytes(content)
        path.with_suffix(".part").replace(path)


def test_attempt_that_lost_the_job_writes_no_index(bench: Bench, broken_off: Claim, tmp_path: Path) -> None:
    """It notices before its lease does: the index is written by who owns the job alone."""
    lose(bench, broken_off)
    kept = Kept(bench, tmp_path, broken_off)
    kept.write(b"too late")
    with kept.keeper as keeper:
        keeper.start(stored=False)
        eventually(lambda: kept.lease.interruption is Reason.LOST)
        keeper.stop()
    assert index_of(bench, broken_off.job, 1) is None


def test_each_newer_checkpoint_takes_the_place_of_the_one_before(
    bench: Bench, broken_off: Claim, tmp_path: Path
) -> None:
    kept = Kept(bench, tmp_path, broken_off)
    with kept.keeper as keeper:
        keeper.start(stored=False)
        for number in range(3):
            content = b"epoch %d" % number
            kept.write(content)
            digest = hashlib.sha256(content).hexdigest()
            eventually(lambda digest=digest: digests(index_of(bench, broken_off.job, 1)) == {digest})
        eventually(lambda: len(progress(bench, broken_off.job)) == 2)
        keeper.stop()
        kept.write(b"after the end")
        time.sleep(1)
    assert digests(index_of(bench, broken_off.job, 1)) == {digest}


def digests(index: Index | None) -> set[str]:
    return {file.sha256 for file in index.files} if index is not None else set()


def test_what_earlier_attempts_stored_goes_when_there_is_something_newer(
    bench: Bench, broken_off: Claim, tmp_path: Path
) -> None:
    store_progress(bench, broken_off, FILES)
    lose(bench, broken_off)
    second = bench.store.claim(broken_off.job_id, "here")
    assert second is not None
    kept = Kept(bench, tmp_path, second)
    kept.write(b"fetched")
    with kept.keeper as keeper:
        keeper.start(stored=True)
        time.sleep(1)
        assert index_of(bench, second.job, 2) is None
        assert index_of(bench, second.job, 1) is not None
        kept.write(b"newer")
        eventually(lambda: progress(bench, second.job) == {"progress/a2/index.json", "progress/a2/1"})
