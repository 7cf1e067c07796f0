"""The scheduler as a process, and two of them: each fire makes one job, whoever of them dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from celery.schedules import schedule
from pydantic import SecretStr
from redbeat import RedBeatSchedulerEntry

from featherweight.job import JobState
from tasks.messages import FIRE, Seal, sealed
from tasks.queue import SCHEDULES, Queue
from tasks.scheduler import Scheduler, make_scheduler
from tasks.schedules.waker import Waker
from tasks.settings import Settings
from tasks.storage import Storage
from tests.tasks.conftest import eventually
from tests.tasks.schedules import PROJECT, Almanac

ROOT = Path(__file__).parents[2]
_BEAT = ["-m", "celery", "--app=tasks.scheduler", "beat", "--pidfile=", "--loglevel=INFO"]
_COURIER = ["-m", "celery", "--app=tasks.courier", "worker", "--queues=schedules", "--loglevel=INFO"]
_COURIER += ["--without-gossip", "--without-mingle"]
# Python and Celery are read from disk by several at once, on a machine that is busy with other tests.
_STARTED_WITHIN_S = 60
_WORKER = ["-m", "celery", "--app=tasks", "worker", "--queues=tensorflow", "--loglevel=INFO"]


class Processes:
    def __init__(self, settings: Settings, logs: Path) -> None:
        self._logs = logs
        self._environment = {**os.environ, **_environment(settings)}
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, command: list[str]) -> subprocess.Popen[bytes]:
        with (self._logs / f"{len(self.started)}.log").open("wb") as log:
            self.started.append(
                subprocess.Popen(
                    [sys.executable, *command], cwd=ROOT, env=self._environment, stdout=log, stderr=log
                )
            )
        return self.started[-1]

    def log(self, process: subprocess.Popen[bytes]) -> str:
        return (self._logs / f"{self.started.index(process)}.log").read_text()

    def stop(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()


def _environment(settings: Settings) -> dict[str, str]:
    return {
        f"FEATHERWEIGHT_{name.upper()}": value.get_secret_value()
        if isinstance(value, SecretStr)
        else str(value)
        for name, value in settings
        if value is not None
    }


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={
            "runner_target": "tests.misbehaving.behaves:compress",
            "lease_s": 10.0,
            "reaper_interval_s": 1.0,
            "worker_concurrency": 2,
        }
    )


@pytest.fixture
def almanac(settings: Settings, redis_client: redis.Redis, storage: Storage, queue: Queue) -> Almanac:
    return Almanac(settings, redis_client, storage, queue)


@pytest.fixture
def processes(settings: Settings, tmp_path: Path) -> Iterator[Processes]:
    processes = Processes(settings, tmp_path)
    yield processes
    processes.stop()


@pytest.mark.slow
def test_sixty_fires_of_two_schedulers_of_which_one_is_killed_make_a_job_each(
    almanac: Almanac, processes: Processes, redis_admin: redis.Redis
) -> None:
    for command in (_COURIER, _WORKER):
        processes.start(command)
    leader = processes.start(_BEAT)
    eventually(lambda: redis_admin.exists("fw:beat:lock"), timeout_s=_STARTED_WITHIN_S)
    second = processes.start(_BEAT)
    eventually(lambda: "beat: Starting" in processes.log(second), timeout_s=_STARTED_WITHIN_S)
    for process in processes.started[:2]:
        eventually(partial(ready, processes, process), timeout_s=_STARTED_WITHIN_S)
    record = almanac.schedule(
        trigger={"type": "interval", "seconds": 1}, catch_up="all", max_runs=60, overlap="allow"
    )
    almanac.queue.send(FIRE, record.id, queue=SCHEDULES)
    eventually(lambda: len(almanac.runs(record)) >= 15, timeout_s=90)
    holder = redis_admin.get("fw:beat:lock")
    leader.send_signal(signal.SIGKILL)
    eventually(lambda: redis_admin.get("fw:beat:lock") not in (None, holder), timeout_s=40)
    eventually(lambda: almanac.reloaded(record).state == "ended", timeout_s=120)
    eventually(lambda: all_done(almanac, record), timeout_s=120)

    runs = almanac.runs(record)
    assert [run.fire_time for run in runs] == [
        record.anchor + timedelta(seconds=number) for number in range(1, 61)
    ]
    assert [(run.id, run.state, run.error) for run in runs if run.state != "succeeded"] == []
    jobs = every_job(almanac)
    assert len(jobs) == 60
    assert {job.id for job in jobs} == {run.job_id for run in runs}
    assert {job.origin.item for job in jobs if job.origin} == {run.item for run in runs}
    assert {job.state for job in jobs} == {JobState.SUCCEEDED}
    # Both have sent messages: neither did it all alone.
    assert "Sending due task" in processes.log(leader)
    assert "Sending due task" in processes.log(second)


def test_the_scheduler_wakes_a_courier_for_each_fire_in_time(almanac: Almanac, processes: Processes) -> None:
    courier = processes.start(_COURIER)
    processes.start(_BEAT)
    eventually(lambda: ready(processes, courier), timeout_s=_STARTED_WITHIN_S)
    record = almanac.schedule(trigger={"type": "interval", "seconds": 2}, catch_up="all")
    almanac.queue.send(FIRE, record.id, queue=SCHEDULES)
    runs = eventually(lambda: len(almanac.runs(record)) >= 4 and almanac.runs(record), timeout_s=60)
    # The first may have had to wait for the processes to start. There is no worker, so no reaper.
    assert max(run.late_by_s for run in runs[2:]) < 2.5


def test_a_frozen_scheduler_that_lost_its_lock_goes_on_when_it_can(
    settings: Settings, redis_client: redis.Redis
) -> None:
    scheduler = Scheduler(make_scheduler(settings), lazy=True)
    scheduler._take_lock()
    assert scheduler.lock.owned()
    redis_client.delete("fw:beat:lock")
    scheduler.tick()
    assert scheduler.lock is None
    scheduler.tick()
    assert scheduler.lock.owned()
    scheduler.close()
    assert redis_client.exists("fw:beat:lock") == 0


def test_while_redis_is_away_the_scheduler_waits(settings: Settings) -> None:
    away = settings.model_copy(update={"redis_url": "redis://127.0.0.1:9/0"})
    scheduler = Scheduler(make_scheduler(away), lazy=True)
    assert scheduler.tick() == 1.0


def test_what_the_scheduler_sends_is_signed_whatever_the_entry_says(
    settings: Settings, redis_client: redis.Redis
) -> None:
    app = make_scheduler(settings)
    waker = Waker(app, settings)
    scheduler = Scheduler(app, lazy=True)
    scheduler._take_lock()
    waker.wake("sch_mine", None)  # nothing there is no fault
    waker.wake("sch_mine", datetime.now(UTC) - timedelta(seconds=5))
    forge(app, "sch_theirs")
    eventually(lambda: (scheduler.tick(), redis_client.llen(SCHEDULES))[1], timeout_s=5)
    time.sleep(1)
    scheduler.tick()
    scheduler.close()
    assert redis_client.llen(SCHEDULES) == 1
    assert waiting(settings) == [(FIRE, "sch_mine")]


def forge(app: Any, name: str) -> None:
    """An entry for another task, as somebody who can write to Redis might leave it."""
    RedBeatSchedulerEntry(name, "tasks.run_job", schedule(1, app=app), args=["job_x"], app=app).save()


def waiting(settings: Settings) -> list[tuple[str, str]]:
    """The messages in the couriers' queue whose signature is right."""
    client = redis.Redis.from_url(settings.redis_url)
    found = [sealed(json.loads(raw)) for raw in client.lrange(SCHEDULES, 0, -1)]
    client.close()
    seal = Seal.of(settings)
    return [
        (message.task, message.id)
        for message in found
        if seal.accepts(message.id, message.signature, message.task)
    ]


def ready(processes: Processes, process: subprocess.Popen[bytes]) -> bool:
    return "ready." in processes.log(process)


def all_done(almanac: Almanac, record: Any) -> bool:
    return all(run.state not in ("pending", "submitted") for run in almanac.runs(record))


def every_job(almanac: Almanac) -> list[Any]:
    found, cursor = almanac.jobs.list(PROJECT, limit=100)
    assert cursor is None
    return found
