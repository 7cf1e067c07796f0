"""A worker whose disk is full: its job is tried again, it lives, and takes no job before there is room."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.fitness import DiskFull, Fitness, is_disk_full
from tasks.presence import workers as present
from tasks.settings import Settings
from tasks.storage import StorageUnavailable
from tests.tasks.conftest import PROJECT, Bench, eventually
from tests.tasks.test_worker import Workers, done, submit

MIB = 1024 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 48 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=48m,mode=0755", "tmpfs", str(disk)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    if "disk" not in request.fixturenames:
        return settings
    disk: Path = request.getfixturevalue("disk")
    changes = {"scratch_dir": disk / "scratch", "scratch_reserve_bytes": 8 * MIB}
    return settings.model_copy(update=changes)


@pytest.fixture
def workers(bench: Bench, tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(bench, tmp_path)
    yield workers
    workers.stop()


def test_a_job_that_runs_out_of_disk_makes_room_and_is_tried_again(bench: Bench, disk: Path) -> None:
    job = bench.run("fills_disk")
    assert job.state == "queued"
    (attempt,) = job.attempts
    assert (attempt.ended_because, attempt.counted) == ("disk_full", True)
    assert attempt.detail is not None
    assert str(disk) not in attempt.detail
    assert not (bench.settings.scratch_dir / job.id).exists()
    bench.supervisor("behaves").run(job.id)
    ended = bench.store.get(PROJECT, job.id)
    assert (ended.state, ended.attempt) == ("succeeded", 2)


def test_a_disk_that_cannot_hold_the_inputs_is_no_fault_of_the_job(bench: Bench, disk: Path) -> None:
    (disk / "ballast").write_bytes(bytes(38 * MIB))
    large = bench.submit(data=bytes(12 * MIB))
    supervisor = bench.supervisor("behaves")
    assert supervisor.fitness.why_not() is None
    supervisor.run(large.id)
    ended = bench.store.get(PROJECT, large.id)
    assert (ended.state, ended.attempts[0].ended_because) == ("queued", "disk_full")
    (disk / "ballast").unlink()
    supervisor.run(large.id)
    assert bench.store.get(PROJECT, large.id).state == "succeeded"


@pytest.mark.slow
def test_a_worker_without_room_takes_no_job_says_why_and_goes_on_when_there_is_room(
    bench: Bench, workers: Workers, disk: Path
) -> None:
    ballast = disk / "ballast"
    worker = workers.start("behaves")
    first = submit(bench)
    assert eventually(lambda: done(bench, first), timeout_s=30).state == "succeeded"
    ballast.write_bytes(bytes(42 * MIB))
    job = submit(bench)
    (why,) = eventually(
        lambda: [status.why for status in present(bench.client).values() if status.state == "unusable"]
    )
    assert "the disk is full" in why
    assert bench.store.get(PROJECT, job.id).attempt == 0
    ballast.unlink()
    ended = eventually(lambda: done(bench, job), timeout_s=30)
    assert (ended.state, ended.attempt) == ("succeeded", 1)
    assert worker.poll() is None
    eventually(lambda: [status.state for status in present(bench.client).values()] == ["ready"])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_what_says_that_the_disk_is_full(number: int) -> None:
    assert is_disk_full(OSError(number, "x"))
    assert is_disk_full(DiskFull())
    assert not is_disk_full(OSError(errno.EFBIG, "x"))


def test_kept_steps_give_way_to_the_reserve(settings: Settings) -> None:
    kept = settings.scratch_dir / f"job_{'a' * 26}" / "work"
    kept.mkdir(parents=True)
    assert Fitness(settings.model_copy(update={"scratch_reserve_bytes": 0})).why_not() is None
    assert kept.exists()
    why = Fitness(settings.model_copy(update={"scratch_reserve_bytes": 10**18})).why_not()
    assert why is not None
    assert "the disk is full" in why
    assert not kept.exists()


class _Storage:
    def __init__(self) -> None:
        self.away = True

    def ready(self) -> None:
        if self.away:
            raise StorageUnavailable("nobody there")


def test_after_an_attempt_lost_to_storage_no_job_is_taken_before_it_answers(settings: Settings) -> None:
    storage = _Storage()
    fitness = Fitness(settings, storage)  # type: ignore[arg-type]
    assert fitness.why_not() is None
    fitness.note(StorageUnavailable("x"))
    assert "nobody there" in (fitness.why_not() or "")
    storage.away = False
    assert fitness.why_not() is None
