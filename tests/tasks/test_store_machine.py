"""Any order of calls, by rightful and by stale holders, against a model of what must be true.

Deadlines, leases and rests are over when the machine says so: it moves their times, not the clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, strategies
from hypothesis import settings as effort
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from featherweight.events import LogEvent, ProgressEvent
from featherweight.job import TRANSITIONS, IllegalTransition, JobState, Origin
from featherweight.problem import problem
from tasks.identifiers import new_id
from tasks.limits import Pauses, ProjectLimits
from tasks.queue import DEFAULT_QUEUE
from tasks.records import Claim, JobRecord, Outcome
from tasks.recordstore import NotFound
from tasks.settings import Settings
from tasks.store import JobStore
from tests.tasks.conftest import PROJECT, request

OUTCOMES = {
    "succeeded": Outcome.succeeded([], "smaller"),
    "failed": Outcome.failed(problem("bad_model", "damaged")),
    "cancelled": Outcome.cancelled(),
    "expired": Outcome.expired(problem("total_timeout", "too late")),
}
RUNNING = ("running", "finalizing")
OVER = ("succeeded", "failed", "cancelled", "expired")
OTHER = "another"
TOTAL_S = 3600


@dataclass
class Truth:
    """What a job must be. `holder` is the only claim that may change it. `before` counts the attempts of
    before Redis was lost, and `told` says whether the job has said anything since."""

    project: str
    model: str
    total_s: int | None = None
    resting: bool = False
    overdue: bool = False
    settled: bool = False
    before: int = 0
    told: bool = True
    state: str = "queued"
    attempt: int = 0
    losses: int = 0
    cancel_requested: bool = False
    holder: Claim | None = None
    ended_by: list[str] = field(default_factory=list)

    def end(self, because: str) -> None:
        self.holder = None
        self.ended_by.append(because)

    @property
    def waits(self) -> bool:
        """Queued, and to be claimed by whose turn it is."""
        return self.state == "queued" and not self.resting


class StoreMachine(RuleBasedStateMachine):
    client: redis.Redis
    admin: redis.Redis
    options: Settings

    jobs = Bundle("jobs")
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.admin.flushall()
        self.store = JobStore(self.client, self.options)
        # In the order in which they were created, which is that in which a project's jobs are claimed.
        self.truths: dict[str, Truth] = {}
        # When a project last had a job claimed: the number of the claim.
        self.served: dict[str, int] = {}
        self.limits = {PROJECT: 0, OTHER: 0}
        self.paused: set[str] = set()

    def running(self, project: str) -> int:
        return sum(truth.project == project and truth.state in RUNNING for truth in self.truths.values())

    def next_in_turn(self) -> str | None:
        """Whose turn it is, told again in other words than the scripts'."""
        queued: dict[str, str] = {}
        for job_id, truth in self.truths.items():
            if truth.waits:
                queued.setdefault(truth.project, job_id)
        may = [
            p
            for p in queued
            if p not in self.paused and (not self.limits[p] or self.running(p) < self.limits[p])
        ]
        ranked = sorted(may, key=lambda p: (self.running(p), self.served.get(p, 0), p))
        return queued[ranked[0]] if ranked else None

    def aimed(self, job_id: str, aim: bool, *states: str) -> str:
        """`job_id`, or with `aim` one of those that are in one of `states`, if there are any: what happens to
        jobs that it can happen to must not be rare."""
        fit = [i for i, t in self.truths.items() if ("resting" if t.resting else t.state) in states]
        return fit[0] if aim and fit and job_id not in fit else job_id

    def holds(self, claim: Claim) -> bool:
        return self.truths[claim.job_id].holder is claim

    # What may be called

    # Every run has jobs that wait and jobs that run from its beginning on.

    @initialize(target=jobs)
    def some_wait(self) -> Any:
        return multiple(*(self.create("mdl_a", PROJECT, total_s) for total_s in (None, TOTAL_S)))

    @initialize(target=claims)
    def some_run(self) -> Any:
        made = [self.create("mdl_b", OTHER, total_s) for total_s in (TOTAL_S, None)]
        return multiple(*(self.claim(job_id) for job_id in made))

    @rule(
        target=jobs,
        model=strategies.sampled_from(["mdl_a", "mdl_b"]),
        project=strategies.sampled_from([PROJECT, PROJECT, OTHER]),
        total_s=strategies.sampled_from([None, TOTAL_S]),
    )
    def create(self, model: str, project: str, total_s: int | None) -> str:
        limits = {} if total_s is None else {"max_total_s": total_s}
        job = self.store.create(project, request(model, **limits), job_id=new_id("job"))
        self.truths[job.id] = Truth(project, model, total_s)
        # Asked again after a lost answer it is the same.
        assert self.store.create(project, request("mdl_b"), job_id=job.id) == job
        return job.id

    @rule(target=jobs, job_id=jobs)
    def retry(self, job_id: str) -> str:
        """As the service does it: of what ended without succeeding."""
        truth = self.truths.get(job_id)
        if truth is None or truth.state not in OVER or truth.state == "succeeded":
            return job_id
        old = self.store.get(truth.project, job_id)
        wanted = request(old.model_id).model_copy(update={"limits": old.limits})
        origin = Origin(type="retry", id=job_id)
        job = self.store.create(truth.project, wanted, job_id=new_id("job"), origin=origin)
        assert job.origin == origin
        self.truths[job.id] = Truth(truth.project, truth.model, truth.total_s)
        return job.id

    @rule(job_id=jobs)
    def discard(self, job_id: str) -> None:
        truth = self.truths.get(job_id)
        untouched = truth is not None and truth.state == "queued" and truth.attempt == 0
        assert self.store.discard(truth.project if truth else PROJECT, job_id) == untouched
        if untouched:
            del self.truths[job_id]
            assert self.store.find(job_id) is None

    @rule(project=strategies.sampled_from([PROJECT, OTHER]), paused=strategies.booleans())
    def pause(self, project: str, paused: bool) -> None:
        pauses = Pauses(self.client)
        if paused:
            pauses.pause(project)
            self.paused.add(project)
        else:
            assert pauses.resume(project) == (project in self.paused)
            self.paused.discard(project)
        assert (pauses.since(project) is not None) == paused

    @rule(project=strategies.sampled_from([PROJECT, OTHER]), most=strategies.sampled_from([0, 0, 1, 2]))
    def limit(self, project: str, most: int) -> None:
        ProjectLimits(self.client, self.options).change(project, {"running_jobs": most or None})
        self.limits[project] = most

    @rule(target=claims, job_id=jobs)
    def claim(self, job_id: str) -> Claim | None:
        turn = self.next_in_turn() if job_id in self.truths else None
        while turn is not None and self.truths[turn].overdue:
            self.truths[turn].state = "expired"
            turn = self.next_in_turn()
        claim = self.store.claim(job_id, "worker")
        assert (claim and claim.job_id) == turn
        if claim is not None:
            truth = self.truths[claim.job_id]
            truth.attempt += 1
            self.served[truth.project] = 1 + max(self.served.values(), default=0)
            truth.state, truth.holder = "running", claim
            assert claim.attempt == truth.attempt
        return claim

    @rule(claim=claims)
    def renew(self, claim: Claim | None) -> None:
        if claim is None:
            return
        with self.only_the_holder_changes(claim):
            for answer in (self.store.renew(claim), self.store.poll(claim)):
                assert answer.owned == self.holds(claim)
                assert answer.cancel_requested == (
                    answer.owned and self.truths[claim.job_id].cancel_requested
                )

    @rule(claim=claims)
    def emit(self, claim: Claim | None) -> None:
        if claim is None:
            return
        with self.only_the_holder_changes(claim):
            assert self.store.emit(claim, LogEvent(message="words")) == self.holds(claim)
            assert self.store.emit(claim, ProgressEvent(stage="s", fraction=0.5)) == self.holds(claim)

    @rule(claim=claims)
    def finalize(self, claim: Claim | None) -> None:
        if claim is None:
            return
        with self.only_the_holder_changes(claim):
            assert self.store.finalizing(claim) == self.holds(claim)
        if self.holds(claim):
            self.truths[claim.job_id].state = "finalizing"

    @rule(claim=claims, name=strategies.sampled_from(sorted(OUTCOMES)))
    def commit(self, claim: Claim | None, name: str) -> None:
        if claim is None:
            return
        truth = self.truths[claim.job_id]
        try:
            with self.only_the_holder_changes(claim):
                committed = self.store.commit(claim, OUTCOMES[name])
        except IllegalTransition:
            assert self.holds(claim)
            assert (truth.state, name) == ("running", "succeeded")
            return
        if self.holds(claim):
            assert committed
            truth.state = name
            truth.end(claim.nonce)
        else:
            # Whoever has ended the job is told so again; any other is refused.
            assert committed == (truth.ended_by[-1:] == [claim.nonce])

    @rule(claim=claims, counted=strategies.booleans(), aim=strategies.booleans())
    def release(self, claim: Claim | None, counted: bool, aim: bool) -> None:
        held = [truth.holder for truth in self.truths.values() if truth.holder]
        if aim and held:
            claim = held[-1]
        if claim is None:
            return
        held = self.holds(claim)
        with self.only_the_holder_changes(claim):
            queued = self.store.release(claim, "worker_stopped", counted=counted)
        if held:
            self.give_back(claim.job_id, int(counted), rests=counted)
        assert queued == (held and self.truths[claim.job_id].state == "queued")

    @rule(job_id=jobs, aim=strategies.booleans())
    def cancel(self, job_id: str, aim: bool) -> None:
        job_id = self.aimed(job_id, aim, "resting", "running")
        truth = self.truths.get(job_id)
        if truth is None:
            with pytest.raises(NotFound):
                self.store.request_cancel(PROJECT, job_id)
            return
        self.store.request_cancel(truth.project, job_id)
        if truth.state == "queued":
            truth.state, truth.resting = "cancelled", False
        truth.cancel_requested |= truth.state in (*RUNNING, "cancelled")

    @rule(job_id=jobs, aim=strategies.booleans())
    def lose_worker(self, job_id: str, aim: bool) -> None:
        job_id = self.aimed(job_id, aim, *RUNNING)
        truth = self.truths.get(job_id)
        ran = truth is not None and truth.state in RUNNING
        self.client.zadd("fw:leases", {job_id: 0}, xx=True)
        queued = self.store.expire_leases()
        if truth is not None and ran:
            # The lease was the first rest.
            self.give_back(job_id, 1, rests=truth.losses > 0)
        assert queued == ([job_id] if ran and self.truths[job_id].state == "queued" else [])

    @rule(job_id=jobs, aim=strategies.booleans())
    def wait_too_long(self, job_id: str, aim: bool) -> None:
        job_id = self.aimed(job_id, aim, "resting")
        self.client.zadd("fw:deadlines", {job_id: 0}, xx=True)
        expired = self.store.expire_queued()
        truth = self.truths.get(job_id)
        assert expired == ([job_id] if truth is not None and truth.state == "queued" else [])
        if truth is not None and expired:
            truth.state, truth.resting = "expired", False

    @rule(job_id=jobs, aim=strategies.booleans())
    def rest_is_over(self, job_id: str, aim: bool) -> None:
        job_id = self.aimed(job_id, aim, "resting")
        self.client.zadd(f"fw:later:{DEFAULT_QUEUE}", {job_id: 0}, xx=True)
        self.store.unannounced(DEFAULT_QUEUE)
        if job_id in self.truths:
            self.truths[job_id].resting = False

    @rule(job_id=jobs, aim=strategies.sampled_from([*RUNNING, "queued", "resting"]))
    def has_no_time_left(self, job_id: str, aim: str) -> None:
        job_id = self.aimed(job_id, True, aim)
        truth = self.truths.get(job_id)
        if truth is not None and truth.total_s is not None and truth.state not in OVER:
            self.age(job_id, truth.total_s + 1)
            truth.overdue = True

    @rule(job_id=jobs, long=strategies.booleans())
    def look_for_overdue(self, job_id: str, long: bool) -> None:
        """Those that wait end at once, those that run only if nobody ends them in time."""
        job_id = self.aimed(job_id, True, *RUNNING)
        truth = self.truths.get(job_id)
        if long and truth is not None and truth.overdue and truth.state in RUNNING:
            self.age(job_id, TOTAL_S + 60)
        else:
            long = False
        self.client.zadd(
            "fw:total-deadlines", {j: 0 for j, t in self.truths.items() if t.overdue} or {"": 0}, xx=True
        )
        waiting = {j for j, t in self.truths.items() if t.overdue and t.state == "queued"}
        taken = {job_id} if long else set()
        assert set(self.store.expire_overdue()) == waiting | taken
        for each in waiting | taken:
            self.truths[each].state, self.truths[each].resting = "expired", False
        if truth is not None and taken:
            truth.end("taken away")

    @rule(shuffled=strategies.randoms(use_true_random=False), seldom=strategies.integers(0, 3))
    def lose_redis(self, shuffled: Any, seldom: int) -> None:
        """All of it, and put the jobs back from what storage has of them."""
        if seldom or any(truth.overdue for truth in self.truths.values()):
            return  # their creation was moved, and with it their place
        records = [self.stored(job_id) for job_id in self.truths]
        shuffled.shuffle(records)
        self.admin.flushall()
        for record in records:
            truth = self.truths[record.id]
            before = 0 if record.done else truth.attempt + 1
            assert self.store.restore(record, attempts_before=before)
            assert not self.store.restore(record, attempts_before=before)
            if record.done:
                truth.settled, truth.told = True, False
                # Of who had ended it nothing is known any more.
                truth.ended_by.append("lost")
            else:
                self.truths[record.id] = Truth(
                    truth.project, truth.model, truth.total_s, attempt=before, before=before
                )
        self.limits, self.served, self.paused = {PROJECT: 0, OTHER: 0}, {}, set()

    def stored(self, job_id: str) -> JobRecord:
        record = self.store.get(self.truths[job_id].project, job_id)
        return JobRecord.model_validate_json(record.model_dump_json())

    def age(self, job_id: str, seconds: float) -> None:
        now, _ = self.client.time()  # type: ignore[misc]
        self.client.hset(f"fw:job:{job_id}", "created_at", f"{now - seconds:.6f}")

    @contextmanager
    def only_the_holder_changes(self, claim: Claim) -> Iterator[None]:
        """Whatever is done with a claim that does not hold the job leaves it as it is."""
        key = f"fw:job:{claim.job_id}"
        held, before = self.holds(claim), (self.client.hgetall(key), self.client.xlen(f"{key}:events"))
        yield
        if not held:
            assert (self.client.hgetall(key), self.client.xlen(f"{key}:events")) == before

    def give_back(self, job_id: str, losses: int, *, rests: bool) -> None:
        truth = self.truths[job_id]
        truth.losses += losses
        truth.end("given back")
        if truth.cancel_requested:
            truth.state = "cancelled"
        elif truth.losses >= self.options.max_attempts:
            truth.state = "failed"
        else:
            truth.state = "expired" if truth.overdue else "queued"
        truth.resting = rests and truth.state == "queued"

    # What must hold

    @invariant()
    def records_are_what_they_must_be(self) -> None:
        for job_id, truth in self.truths.items():
            job = self.store.get(truth.project, job_id)
            assert (job.state, job.attempt, job.losses) == (truth.state, truth.attempt, truth.losses)
            assert job.done == (not TRANSITIONS[JobState(truth.state)])
            assert [each.number for each in job.attempts] == list(range(truth.before + 1, truth.attempt + 1))
            assert sum(attempt.ended_at is None for attempt in job.attempts) == (truth.holder is not None)
            assert (job.lease_until is not None) == (truth.holder is not None)
            assert (job.error is not None) == (job.state in ("failed", "expired"))

    @invariant()
    def indexes_agree_with_records(self) -> None:
        for key, states in {
            "fw:leases": RUNNING,
            "fw:deadlines": ("queued",),
            "fw:hints": ("queued",),
            "fw:unsettled": OVER,
        }.items():
            assert self.members(key) == {
                i for i, t in self.truths.items() if t.state in states and not t.settled
            }
        assert self.members("fw:total-deadlines") == {
            i for i, t in self.truths.items() if t.total_s is not None and t.state not in OVER
        }
        assert self.members(f"fw:later:{DEFAULT_QUEUE}") == {i for i, t in self.truths.items() if t.resting}
        for project, model in product((PROJECT, OTHER), (None, "mdl_a", "mdl_b")):
            listed = [job.id for job in self.store.list(project, model_id=model, limit=1000)[0]]
            assert listed == [
                i
                for i, t in reversed(self.truths.items())
                if t.project == project and model in (None, t.model)
            ]
        for project, state in product((PROJECT, OTHER), JobState):
            found, _ = self.store.list(project, state=state, limit=1000)
            assert {job.id for job in found} == {
                i for i, t in self.truths.items() if (t.project, t.state) == (project, state)
            }
        queued = {project: self.members(f"fw:line:tensorflow:{project}") for project in (PROJECT, OTHER)}
        for project, ids in queued.items():
            assert ids == {i for i, t in self.truths.items() if t.project == project and t.waits}
        assert self.members("fw:turns:tensorflow") == {project for project, ids in queued.items() if ids}

    @invariant()
    def histories_are_legal(self) -> None:
        for job_id, truth in self.truths.items():
            events = [
                event for _, event in self.store.events(truth.project, job_id) if event["type"] == "state"
            ]
            states = [JobState(event["state"]) for event in events]
            if not truth.told:
                assert states == []
                continue
            assert states[0] == "queued"
            assert states[-1] == truth.state
            assert all(new in TRANSITIONS[old] for old, new in pairwise(states))

    def members(self, key: str) -> set[str]:
        found: Any = self.client.zrange(key, 0, -1)
        return {member.decode() for member in found}


EFFORT = effort(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.slow
def test_no_order_of_calls_reaches_an_illegal_state(
    redis_client: redis.Redis, redis_admin: redis.Redis, settings: Settings
) -> None:
    StoreMachine.client, StoreMachine.admin = redis_client, redis_admin
    StoreMachine.options = settings.model_copy(update={"retry_first_s": 1000, "retry_max_s": 1000})
    run_state_machine_as_test(StoreMachine, settings=EFFORT)  # type: ignore[no-untyped-call]
