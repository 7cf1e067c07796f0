"""What the reaper finds, and what it leaves alone."""

from __future__ import annotations

import time

import pytest

from featherweight.problem import problem
from tasks import keys
from tasks.reaper import Reaper
from tasks.records import Outcome
from tests.tasks.conftest import PROJECT, Bench


class Clock:
    """Stands until it is moved: how long a test takes does not make a reaper seem absent."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reaper(bench: Bench, clock: Clock) -> Reaper:
    return Reaper(bench.settings, bench.client, bench.store, bench.storage, bench.queue, clock)


def test_lost_job_is_queued_and_announced(bench: Bench, reaper: Reaper) -> None:
    job = bench.submit()
    bench.store.claim(job.id, "lost")
    bench.client.zadd("fw:leases", {job.id: 0})
    reaper.look()
    assert bench.store.get(PROJECT, job.id).state == "queued"
    assert bench.queue.hinted() == {job.id}


def test_job_with_a_message_waiting_is_not_announced_twice(bench: Bench, reaper: Reaper) -> None:
    announced, forgotten = bench.submit(), bench.submit()
    bench.queue.enqueue(announced.id)
    bench.client.zadd("fw:hints", {announced.id: 0, forgotten.id: 0})
    reaper.look()
    assert bench.queue.hinted() == {announced.id, forgotten.id}
    assert bench.client.llen("tensorflow") == 2
    reaper.look()
    assert bench.client.llen("tensorflow") == 2


def test_unreadable_messages_do_not_hide_forgotten_jobs(bench: Bench, reaper: Reaper) -> None:
    job = bench.submit()
    for raw in ("garbage", "[]", "7", '{"headers": {"task": "tasks.run_job"}, "body": "?"}'):
        bench.client.lpush("tensorflow", raw)
    bench.client.zadd("fw:hints", {job.id: 0})
    reaper.look()
    assert bench.queue.hinted() == {job.id}


def test_job_that_waited_too_long_expires_and_is_settled(bench: Bench, reaper: Reaper) -> None:
    job = bench.submit(max_queue_s=1)
    bench.client.zadd("fw:deadlines", {job.id: 0})
    reaper.look()
    bench.client.zadd("fw:unsettled", {job.id: 0})
    reaper.look()
    assert bench.storage.get_json(keys.result_key(PROJECT, job.id))["error"]["code"] == "queue_timeout"


def test_job_whose_worker_died_after_the_commit_is_settled(bench: Bench, reaper: Reaper) -> None:
    job = bench.submit()
    bench.storage.put_json(keys.job_key(PROJECT, job.id), {})
    claim = bench.store.claim(job.id, "dies")
    assert claim is not None
    for name in ("model.tflite", "log.txt"):
        bench.storage.put_bytes(keys.artifact_key(PROJECT, job.id, 1, name), b"x")
    bench.store.commit(claim, Outcome.failed(problem("bad_model", "damaged")))
    bench.client.zadd("fw:unsettled", {job.id: 0})
    reaper.look()
    assert bench.keys(job) == {"job.json", "result.json", "a1/log.txt"}
    assert bench.client.zcard("fw:unsettled") == 0


def test_reaper_that_was_away_lets_others_renew_first(bench: Bench, reaper: Reaper, clock: Clock) -> None:
    job = bench.submit()
    bench.store.claim(job.id, "alive")
    bench.client.zadd("fw:leases", {job.id: 0})
    clock.now += 2 * bench.settings.lease_s
    reaper.look()
    assert bench.store.get(PROJECT, job.id).state == "running"
    clock.now += bench.settings.lease_s
    reaper.look()
    assert bench.store.get(PROJECT, job.id).state == "queued"


def test_one_reaper_looks_at_a_time(bench: Bench, reaper: Reaper) -> None:
    job = bench.submit()
    bench.store.claim(job.id, "lost")
    reaper._look_if_my_turn()
    bench.client.zadd("fw:leases", {job.id: 0})
    Reaper(bench.settings, bench.client, bench.store, bench.storage, bench.queue)._look_if_my_turn()
    assert bench.store.get(PROJECT, job.id).state == "running"
    time.sleep(bench.settings.reaper_interval_s)
    reaper._look_if_my_turn()
    assert bench.store.get(PROJECT, job.id).state == "queued"


def test_folders_of_ended_jobs_are_swept_and_those_of_others_kept(bench: Bench, reaper: Reaper) -> None:
    ended, queued = bench.submit(), bench.submit()
    bench.store.request_cancel(PROJECT, ended.id)
    bench.storage.put_bytes(keys.artifact_key(PROJECT, ended.id, 1, "model.tflite"), b"left behind")
    root = bench.settings.scratch_dir
    for name in (ended.id, f"{ended.id}~3", queued.id, "job_unknown", ".home"):
        (root / name / "work").mkdir(parents=True)
    reaper.sweep_scratch()
    assert {path.name for path in root.iterdir()} == {queued.id, ".home"}
    assert bench.keys(ended) == {"result.json"}
