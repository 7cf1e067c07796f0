"""The worker as a process: killed, frozen, stopped, and what becomes of its jobs."""

from __future__ import annotations

import base64
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.messages import Seal, new_message_key
from tasks.presence import workers as present
from tasks.records import JobRecord
from tests.tasks.conftest import PROJECT, Bench, eventually, is_alive, pids
from tests.tasks.no_landlock import hide_landlock

ROOT = Path(__file__).parents[2]


class Workers:
    """Workers as operators start them, with short times."""

    def __init__(self, bench: Bench, logs: Path) -> None:
        self._bench = bench
        self._logs = logs
        self.started: list[subprocess.Popen[bytes]] = []

    def start(
        self, misbehaviour: str, *, landlock: bool = True, **overrides: object
    ) -> subprocess.Popen[bytes]:
        settings = self._bench.settings.model_copy(
            update={"runner_target": f"tests.misbehaving.{misbehaviour}:compress", **overrides}
        )
        log = (self._logs / f"worker-{len(self.started)}.log").open("wb")
        with log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "celery", "--app=tasks", "worker", "--queues=tensorflow"],
                cwd=ROOT,
                env={**os.environ, **_environment(settings.model_dump(mode="json"), self._bench)},
                stdout=log,
                stderr=log,
                preexec_fn=None if landlock else hide_landlock,
            )
        self.started.append(worker)
        return worker

    def log(self, number: int = 0) -> str:
        return (self._logs / f"worker-{number}.log").read_text()

    def stop(self) -> None:
        for worker in self.started:
            with suppress(ProcessLookupError):
                worker.send_signal(signal.SIGCONT)
                worker.kill()
            worker.wait()


def _environment(settings: dict[str, object], bench: Bench) -> dict[str, str]:
    values = {
        f"FEATHERWEIGHT_{name.upper()}": str(value) for name, value in settings.items() if value is not None
    }
    for name in ("message_keys", "s3_access_key_id", "s3_secret_access_key"):
        if name in settings and settings[name] is not None:
            values[f"FEATHERWEIGHT_{name.upper()}"] = getattr(bench.settings, name).get_secret_value()
    return values


@pytest.fixture
def workers(bench: Bench, tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(bench, tmp_path)
    yield workers
    workers.stop()


def submit(bench: Bench) -> JobRecord:
    job = bench.submit()
    bench.queue.enqueue(job.id)
    return job


def done(bench: Bench, job: JobRecord) -> JobRecord | None:
    record = bench.store.get(PROJECT, job.id)
    return record if record.done else None


def times_ended(bench: Bench, job: JobRecord) -> int:
    events = [event for _, event in bench.store.events(PROJECT, job.id) if event["type"] == "state"]
    return sum(event["state"] in ("succeeded", "failed", "cancelled", "expired") for event in events)


def test_worker_does_the_jobs_it_is_told_of(bench: Bench, workers: Workers) -> None:
    jobs = [submit(bench) for _ in range(5)]
    workers.start("behaves")
    for job in jobs:
        ended = eventually(lambda job=job: done(bench, job))
        assert (ended.state, ended.attempt) == ("succeeded", 1)
    eventually(lambda: bench.queue.hinted() == set())


def test_worker_on_a_kernel_without_landlock_takes_no_jobs_and_says_why(
    bench: Bench, workers: Workers
) -> None:
    job = submit(bench)
    worker = workers.start("behaves", landlock=False)

    def said() -> bool:
        return any(status.state == "unusable" for status in present(bench.client).values())

    eventually(said)
    (status,) = present(bench.client).values()
    assert "the kernel has no Landlock" in status.why
    assert "this worker takes no jobs" in workers.log()
    worker.send_signal(signal.SIGTERM)
    worker.wait(10)
    assert bench.store.get(PROJECT, job.id).state == "queued"
    assert present(bench.client) == {}


def test_worker_without_landlock_takes_jobs_when_told_that_something_else_confines_them(
    bench: Bench, workers: Workers
) -> None:
    job = submit(bench)
    workers.start("behaves", landlock=False, sandbox="external")
    assert eventually(lambda: done(bench, job)).state == "succeeded"
    assert "limits alone" in workers.log()


def test_a_small_project_waits_for_two_jobs_at_most_beside_one_that_hammers(
    bench: Bench, workers: Workers
) -> None:
    large = [submit(bench) for _ in range(18)]
    workers.start("behaves")
    small = []
    for number in (1, 5, 9):
        eventually(lambda number=number: done(bench, large[number]))
        job = bench.submit(project="small")
        bench.queue.enqueue(job.id)
        small.append(job)
    for job in small:
        eventually(lambda job=job: bench.store.get("small", job.id).done)
    started = [bench.store.get(PROJECT, job.id).started_at for job in large]
    for job in small:
        ended = bench.store.get("small", job.id)
        assert ended.state == "succeeded"
        before = [at for at in started if at and ended.created_at < at < ended.started_at]
        assert len(before) <= 1, "at most one, after the one that ran when it was submitted"
    # And the large one loses nothing.
    for job in large:
        assert eventually(lambda job=job: done(bench, job)).state == "succeeded"


def test_job_whose_message_was_lost_is_announced_again(bench: Bench, workers: Workers) -> None:
    job = bench.submit()
    bench.client.zadd("fw:hints", {job.id: 0})
    workers.start("behaves")
    assert eventually(lambda: done(bench, job)).state == "succeeded"


def test_job_of_a_killed_worker_is_done_once_by_the_next(bench: Bench, workers: Workers) -> None:
    job = submit(bench)
    first = workers.start("sleeps_forever")
    (pid,) = eventually(lambda: pids(bench.store, job))
    server = psutil.Process(pid).ppid()
    first.kill()
    first.wait()
    # With the worker, and not some time later.
    eventually(lambda: not is_alive(pid) and not is_alive(server), timeout_s=2)
    workers.start("behaves")
    ended = eventually(lambda: done(bench, job))
    assert (ended.state, ended.attempt) == ("succeeded", 2)
    assert [attempt.ended_because for attempt in ended.attempts] == ["worker_lost", "succeeded"]
    assert times_ended(bench, job) == 1
    eventually(lambda: bench.keys(job) == {"result.json", "a2/model.tflite", "a2/report.json", "a2/log.txt"})


def test_steps_finished_before_the_worker_was_killed_are_not_run_again(
    bench: Bench, workers: Workers
) -> None:
    job = submit(bench)
    said = lambda word: word in str(bench.store.events(PROJECT, job.id))  # noqa: E731
    first = workers.start("resumes")
    eventually(lambda: said("first"))
    first.kill()
    first.wait()
    workers.start("resumes")
    assert eventually(lambda: done(bench, job)).state == "succeeded"
    assert said("again")


def test_killed_worker_takes_along_runners_that_ignore_signals(bench: Bench, workers: Workers) -> None:
    job = submit(bench)
    # The sandbox would not let it have children.
    worker = workers.start("leaves_children", sandbox="external")
    running = eventually(lambda: len(found := pids(bench.store, job)) == 2 and found)
    worker.kill()
    eventually(lambda: not any(map(is_alive, running)), timeout_s=2)


def test_job_that_loses_every_worker_fails_after_max_attempts(bench: Bench, workers: Workers) -> None:
    job = submit(bench)
    for attempt in (1, 2):
        worker = workers.start("sleeps_forever", max_attempts=2)
        eventually(lambda attempt=attempt: len(pids(bench.store, job)) == attempt)
        worker.kill()
        worker.wait()
    workers.start("sleeps_forever", max_attempts=2)
    ended = eventually(lambda: done(bench, job))
    assert ended.state == "failed"
    assert ended.error is not None
    assert ended.error.code == "too_many_attempts"


def test_frozen_worker_never_publishes(bench: Bench, workers: Workers) -> None:
    job = submit(bench)
    frozen = workers.start("waits_for_a_file")
    (pid,) = eventually(lambda: pids(bench.store, job))
    frozen.send_signal(signal.SIGSTOP)
    workers.start("behaves")
    # The first one's runner was not frozen: it ends well, and nobody may hear of it.
    (bench.settings.scratch_dir / job.id / "work" / "go").touch()
    ended = eventually(lambda: done(bench, job))
    assert (ended.state, ended.attempt) == ("succeeded", 2)
    frozen.send_signal(signal.SIGCONT)
    eventually(lambda: "publishes nothing" in workers.log(0))
    assert not is_alive(pid)
    time.sleep(0.5)
    assert bench.store.get(PROJECT, job.id) == ended
    assert bench.keys(job) == {"result.json", "a2/model.tflite", "a2/report.json", "a2/log.txt"}
    assert times_ended(bench, job) == 1


def test_terminated_worker_gives_its_job_to_the_next_at_once(bench: Bench, workers: Workers) -> None:
    job = submit(bench)
    first = workers.start("sleeps_forever")
    eventually(lambda: pids(bench.store, job))
    started = time.monotonic()
    first.terminate()
    assert first.wait(10) == 0
    assert time.monotonic() - started < 3
    workers.start("behaves")
    ended = eventually(lambda: done(bench, job))
    assert (ended.state, ended.attempt, ended.losses) == ("succeeded", 2, 0)
    assert [attempt.ended_because for attempt in ended.attempts] == ["worker_stopped", "succeeded"]


def test_worker_survives_jobs_that_crash(bench: Bench, workers: Workers) -> None:
    crashing = [submit(bench) for _ in range(3)]
    worker = workers.start("segfaults")
    for job in crashing:
        assert eventually(lambda job=job: done(bench, job)).state == "failed"
    assert worker.poll() is None


def test_message_of_a_long_job_stays_with_its_worker(bench: Bench, workers: Workers) -> None:
    job = submit(bench)
    # Longer than the visibility timeout: without the heartbeat the message would be given out again.
    workers.start("sleeps_forever", visibility_timeout_s=4)
    eventually(lambda: pids(bench.store, job))
    first_score = bench.client.zrange("unacked_index", 0, -1, withscores=True)
    assert len(first_score) == 1
    time.sleep(6)
    later = bench.client.zrange("unacked_index", 0, -1, withscores=True)
    assert later[0][0] == first_score[0][0]
    assert time.time() - later[0][1] < 3
    assert bench.client.llen("tensorflow") == 0


def test_forged_messages_are_not_run(bench: Bench, workers: Workers, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    pickled = base64.b64encode(pickle.dumps(_Marks(mark))).decode()
    waiting = bench.submit()
    bench.client.lpush("tensorflow", _envelope("application/x-python-serialize", pickled))
    for forged in (
        [waiting.id],
        [waiting.id, "0" * 64],
        [waiting.id, Seal([new_message_key()]).sign(waiting.id)],
    ):
        body = base64.b64encode(json.dumps([forged, {}, {}]).encode()).decode()
        bench.client.lpush("tensorflow", _envelope("application/json", body))
    worker = workers.start("behaves")
    eventually(lambda: workers.log().count("refused a message of the queue: its") == 3)
    eventually(lambda: "ContentDisallowed" in workers.log())
    # Its record says that it waits; but nobody who may has said so yet.
    assert bench.store.get(PROJECT, waiting.id).state == "queued"
    bench.queue.enqueue("job_nobody_has_heard_of")
    bench.queue.enqueue(waiting.id)
    assert eventually(lambda: done(bench, waiting)).state == "succeeded"
    assert worker.poll() is None
    assert not mark.exists()
    eventually(lambda: bench.queue.hinted() == set())


GARBAGE = [
    b"no message at all",
    b"",
    b"\xff\xfe",
    b"[" * 100_000,
    b"9" * 5000,
    b"[]",
    b"{}",
    b'"text"',
    b'{"properties": {}}',
    b'{"__type__": "uuid", "__value__": {"hex": "no"}}',
    b'{"__type__": "datetime", "__value__": 7}',
    b'{"body": "!", "properties": {"delivery_tag": "x"}}',
]


def test_worker_survives_what_is_no_message(bench: Bench, workers: Workers) -> None:
    bench.client.rpush("tensorflow", *GARBAGE)
    bench.client.hset("unacked", mapping={"one": b"no message", "two": b'[{}, "", "tensorflow"]'})
    bench.client.zadd("unacked_index", {"one": 1, "two": 1})
    worker = workers.start("behaves", visibility_timeout_s=4)
    job = submit(bench)
    assert eventually(lambda: done(bench, job)).state == "succeeded"
    eventually(lambda: bench.client.llen("tensorflow") == bench.client.hlen("unacked") == 0)
    eventually(lambda: workers.log().count("refused a message of the queue") >= len(GARBAGE) + 1)
    assert worker.poll() is None


def test_worker_does_not_start_without_a_key_for_messages(bench: Bench, workers: Workers) -> None:
    worker = workers.start("behaves", message_keys=None)
    assert worker.wait(20) != 0
    assert "FEATHERWEIGHT_MESSAGE_KEYS is not set" in workers.log()


class _Marks:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._path),)


def _envelope(content_type: str, body: str) -> str:
    message = {
        "body": body,
        "content-encoding": "binary",
        "content-type": content_type,
        "headers": {"task": "tasks.run_job", "id": "forged", "lang": "py"},
        "properties": {
            "delivery_info": {"exchange": "", "routing_key": "tensorflow"},
            "delivery_tag": "forged",
            "body_encoding": "base64",
        },
    }
    return json.dumps(message)
