"""Whose turn it is: no project waits behind all the jobs of another."""

from __future__ import annotations

import itertools
import secrets
from collections import deque

import pytest
import redis

from tasks.identifiers import new_id
from tasks.limits import ProjectLimits
from tasks.queue import DEFAULT_QUEUE
from tasks.reaper import Reaper
from tasks.records import Claim, JobRecord, Outcome
from tasks.settings import Settings
from tasks.store import JobStore, QueueFull
from tasks.usage import Accounts
from tests.tasks.conftest import PROJECT, Bench, request


def create(store: JobStore, project: str) -> JobRecord:
    return store.create(project, request(), job_id=new_id("job"))


class Workshop:
    """Slots that do a job in one unit of time each, told of jobs in the order of their submission."""

    def __init__(self, store: JobStore, slots: int) -> None:
        self.store = store
        self.messages: deque[str] = deque()
        self.running: list[Claim | None] = [None] * slots
        self.time = 0
        self.waited: dict[str, list[int]] = {}
        self._submitted: dict[str, int] = {}

    def submit(self, project: str) -> None:
        job = create(self.store, project)
        self.messages.append(job.id)
        self._submitted[job.id] = self.time

    def tick(self) -> None:
        for slot, claim in enumerate(self.running):
            if claim is not None:
                assert self.store.commit(claim, Outcome.cancelled())
            self.running[slot] = self._next()
        self.time += 1

    def _next(self) -> Claim | None:
        claim = self.store.claim(self.messages.popleft(), "worker") if self.messages else None
        if claim is not None:
            waited = self.time - self._submitted[claim.job_id]
            self.waited.setdefault(claim.job.project, []).append(waited)
        return claim


@pytest.mark.parametrize("slots", [1, 4])
def test_a_project_with_one_job_waits_no_longer_than_two_jobs_beside_one_with_a_thousand(
    store: JobStore, slots: int
) -> None:
    workshop = Workshop(store, slots)
    for _ in range(1000):
        workshop.submit("large")
    for _ in range(40):
        workshop.tick()
        workshop.submit("small")
        workshop.tick()
        workshop.tick()
    assert len(workshop.waited["small"]) == 40
    assert max(workshop.waited["small"]) <= 2
    # And nobody else has lost what the small one left.
    assert len(workshop.waited["large"]) == 3 * slots * 40 - 40


def test_projects_that_always_have_jobs_get_equal_shares(store: JobStore) -> None:
    workshop = Workshop(store, slots=3)
    for project in ("a", "b", "c", "d"):
        for _ in range(100 if project == "a" else 30):
            workshop.submit(project)
    for _ in range(32):
        workshop.tick()
    assert {project: len(waits) for project, waits in workshop.waited.items()} == dict.fromkeys("abcd", 24)


def test_one_that_comes_again_and_again_does_not_come_first_each_time(store: JobStore) -> None:
    for _ in range(10):
        create(store, "patient")
    order = []
    for _ in range(10):
        hint = create(store, "returning")
        claim = store.claim(hint.id, "worker")
        assert claim is not None
        order.append(claim.job.project)
        store.commit(claim, Outcome.cancelled())
    assert order == ["patient", "returning"] * 5


def test_all_jobs_are_done_in_whatever_order_the_messages_come(store: JobStore) -> None:
    jobs = [create(store, project) for project in itertools.islice(itertools.cycle("abb"), 30)]
    for job in reversed(jobs):
        assert store.claim(job.id, "worker") is not None
    assert all(store.get(job.project, job.id).state == "running" for job in jobs)
    assert store.claim(jobs[0].id, "worker") is None


def test_a_claim_asked_again_after_a_lost_answer_is_the_same(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [create(store, "a") for _ in range(2)]
    monkeypatch.setattr(secrets, "token_hex", lambda _: "ab" * 8)
    first, again = store.claim(jobs[1].id, "worker"), store.claim(jobs[1].id, "worker")
    assert first is not None
    assert first == again
    assert store.get("a", jobs[1].id).state == "queued"


def test_a_job_given_back_to_rest_is_not_claimed_before_its_time(
    settings: Settings, redis_client: redis.Redis
) -> None:
    store = JobStore(redis_client, settings.model_copy(update={"retry_first_s": 60}))
    job = create(store, "a")
    claim = store.claim(job.id, "worker")
    assert claim is not None
    assert store.release(claim, "storage_unavailable", counted=True)
    assert store.claim(job.id, "worker") is None
    assert store.unannounced(DEFAULT_QUEUE) == []
    redis_client.zadd(f"fw:later:{DEFAULT_QUEUE}", {job.id: 0}, xx=True)
    assert store.unannounced(DEFAULT_QUEUE) == [job.id]
    assert store.claim(job.id, "worker") is not None


def test_a_record_that_is_gone_does_not_hold_up_the_line(store: JobStore, redis_client: redis.Redis) -> None:
    gone, job = create(store, "a"), create(store, "a")
    redis_client.delete(f"fw:job:{gone.id}")
    claim = store.claim(job.id, "worker")
    assert claim is not None
    assert claim.job_id == job.id


# Limits


def limit(client: redis.Redis, settings: Settings, project: str, **limits: float) -> None:
    ProjectLimits(client, settings).change(project, limits)


def test_a_project_at_its_limit_of_running_jobs_lets_others_pass(
    store: JobStore, redis_client: redis.Redis, settings: Settings
) -> None:
    limit(redis_client, settings, "large", running_jobs=2)
    large = [create(store, "large") for _ in range(5)]
    claims = [store.claim(large[0].id, "worker") for _ in range(4)]
    assert [claim is not None for claim in claims] == [True, True, False, False]
    small = create(store, "small")
    assert store.claim(large[4].id, "worker").job_id == small.id  # type: ignore[union-attr]
    # Its message is gone, and is sent anew when there is room again.
    assert store.unannounced(DEFAULT_QUEUE) == []
    assert store.commit(claims[0], Outcome.cancelled())  # type: ignore[arg-type]
    assert store.unannounced(DEFAULT_QUEUE) == [large[2].id]


def test_a_job_that_waited_for_its_projects_limit_is_announced_when_one_ends(
    bench: Bench, redis_client: redis.Redis
) -> None:
    limit(redis_client, bench.settings, PROJECT, running_jobs=1)
    first, second = bench.submit(), bench.submit()
    bench.supervisor("behaves").run(first.id)
    assert bench.store.get(PROJECT, first.id).state == "succeeded"
    assert bench.queue.hinted() == {second.id}


def test_the_reaper_announces_as_many_jobs_as_messages_are_missing(
    bench: Bench, redis_client: redis.Redis
) -> None:
    reaper = Reaper(bench.settings, bench.client, bench.store, bench.storage, bench.queue)
    limit(redis_client, bench.settings, PROJECT, running_jobs=3)
    jobs = [bench.submit() for _ in range(5)]
    bench.queue.enqueue(jobs[4].id)
    redis_client.zadd("fw:hints", {job.id: 0 for job in jobs})
    reaper.look()
    assert redis_client.llen(DEFAULT_QUEUE) == 3


def test_a_project_with_too_many_jobs_queued_gets_no_more(
    store: JobStore, redis_client: redis.Redis, settings: Settings
) -> None:
    limit(redis_client, settings, "large", queued_jobs=2)
    first = create(store, "large")
    create(store, "large")
    with pytest.raises(QueueFull):
        create(store, "large")
    # The same job again is no other job.
    assert store.create("large", request(), job_id=first.id) == first
    create(store, "small")
    assert store.claim(first.id, "worker") is not None
    create(store, "large")


def test_a_project_that_used_up_its_cpu_seconds_waits_and_others_pass(
    store: JobStore, redis_client: redis.Redis, settings: Settings
) -> None:
    limit(redis_client, settings, "large", cpu_seconds_per_day=100)
    jobs = [create(store, "large") for _ in range(2)]
    accounts = Accounts(redis_client, settings)
    accounts.charge("large", 99)
    assert store.claim(jobs[0].id, "worker") is not None
    accounts.charge("large", 1)
    assert store.claim(jobs[0].id, "worker") is None
    small = create(store, "small")
    assert store.claim(jobs[0].id, "worker").job_id == small.id  # type: ignore[union-attr]
    # A day later it may again.
    redis_client.rename("fw:cpu:large", "fw:cpu:then")
    for quarter, used in redis_client.hgetall("fw:cpu:then").items():
        redis_client.hset("fw:cpu:large", int(quarter) - 96, used)
    assert accounts.usage("large").cpu_seconds == 0
    assert store.claim(jobs[0].id, "worker") is not None


def test_the_time_of_a_job_is_charged_to_its_project(bench: Bench, redis_client: redis.Redis) -> None:
    job = bench.run("behaves")
    assert job.state == "succeeded"
    usage = Accounts(redis_client, bench.settings).usage(PROJECT)
    assert usage.cpu_seconds > 0
    assert usage.stored["job_files"] == sum(artifact.bytes for artifact in job.artifacts) > 0
    assert (usage.running_jobs, usage.queued_jobs) == (0, 0)
