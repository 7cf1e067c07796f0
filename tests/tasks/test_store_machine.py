"""Any order of calls, by rightful and by stale holders, against a model of what must be true."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, strategies
from hypothesis import settings as effort
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from featherweight.events import LogEvent, ProgressEvent
from featherweight.job import TRANSITIONS, IllegalTransition, JobState
from featherweight.problem import problem
from tasks.identifiers import new_id
from tasks.limits import ProjectLimits
from tasks.records import Claim, Outcome
from tasks.settings import Settings
from tasks.store import JobStore
from tests.tasks.conftest import PROJECT, request

OUTCOMES = {
    "succeeded": Outcome.succeeded([], "smaller"),
    "failed": Outcome.failed(problem("bad_model", "damaged")),
    "cancelled": Outcome.cancelled(),
}
RUNNING = ("running", "finalizing")
OTHER = "another"


@dataclass
class Truth:
    """What a job must be. `holder` is the only claim that may change it."""

    project: str
    state: str = "queued"
    attempt: int = 0
    losses: int = 0
    cancel_requested: bool = False
    holder: Claim | None = None
    ended_by: list[str] = field(default_factory=list)

    def end(self, because: str) -> None:
        self.holder = None
        self.ended_by.append(because)


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

    def running(self, project: str) -> int:
        return sum(truth.project == project and truth.state in RUNNING for truth in self.truths.values())

    def next_in_turn(self) -> str | None:
        """Whose turn it is, told again in other words than the scripts'."""
        queued: dict[str, str] = {}
        for job_id, truth in self.truths.items():
            if truth.state == "queued":
                queued.setdefault(truth.project, job_id)
        may = [p for p in queued if not self.limits[p] or self.running(p) < self.limits[p]]
        ranked = sorted(may, key=lambda p: (self.running(p), self.served.get(p, 0), p))
        return queued[ranked[0]] if ranked else None

    def holds(self, claim: Claim) -> bool:
        return self.truths[claim.job_id].holder is claim

    # What may be called

    @rule(
        target=jobs,
        model=strategies.sampled_from(["mdl_a", "mdl_b"]),
        project=strategies.sampled_from([PROJECT, PROJECT, OTHER]),
    )
    def create(self, model: str, project: str) -> str:
        job = self.store.create(project, request(model), job_id=new_id("job"))
        self.truths[job.id] = Truth(project)
        return job.id

    @rule(project=strategies.sampled_from([PROJECT, OTHER]), most=strategies.integers(0, 2))
    def limit(self, project: str, most: int) -> None:
        ProjectLimits(self.client, self.options).change(project, {"running_jobs": most or None})
        self.limits[project] = most

    @rule(target=claims, job_id=jobs)
    def claim(self, job_id: str) -> Claim | None:
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
        if claim is not None:
            for answer in (self.store.renew(claim), self.store.poll(claim)):
                assert answer.owned == self.holds(claim)
                assert answer.cancel_requested == (
                    answer.owned and self.truths[claim.job_id].cancel_requested
                )

    @rule(claim=claims)
    def emit(self, claim: Claim | None) -> None:
        if claim is not None:
            assert self.store.emit(claim, LogEvent(message="words")) == self.holds(claim)
            assert self.store.emit(claim, ProgressEvent(stage="s", fraction=0.5)) == self.holds(claim)

    @rule(claim=claims)
    def finalize(self, claim: Claim | None) -> None:
        if claim is not None:
            assert self.store.finalizing(claim) == self.holds(claim)
            if self.holds(claim):
                self.truths[claim.job_id].state = "finalizing"

    @rule(claim=claims, name=strategies.sampled_from(sorted(OUTCOMES)))
    def commit(self, claim: Claim | None, name: str) -> None:
        if claim is None:
            return
        truth = self.truths[claim.job_id]
        try:
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

    @rule(claim=claims, counted=strategies.booleans())
    def release(self, claim: Claim | None, counted: bool) -> None:
        if claim is None:
            return
        held = self.holds(claim)
        queued = self.store.release(claim, "worker_stopped", counted=counted)
        if held:
            self.give_back(claim.job_id, int(counted))
        assert queued == (held and self.truths[claim.job_id].state == "queued")

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        truth = self.truths[job_id]
        self.store.request_cancel(truth.project, job_id)
        if truth.state == "queued":
            truth.state = "cancelled"
        truth.cancel_requested |= truth.state in (*RUNNING, "cancelled")

    @rule(job_id=jobs)
    def lose_worker(self, job_id: str) -> None:
        ran = self.truths[job_id].state in RUNNING
        self.client.zadd("fw:leases", {job_id: 0}, xx=True)
        queued = self.store.expire_leases()
        if ran:
            self.give_back(job_id, 1)
        assert queued == ([job_id] if ran and self.truths[job_id].state == "queued" else [])

    @rule(job_id=jobs)
    def wait_too_long(self, job_id: str) -> None:
        self.client.zadd("fw:deadlines", {job_id: 0}, xx=True)
        expired = self.store.expire_queued()
        truth = self.truths[job_id]
        assert expired == ([job_id] if truth.state == "queued" else [])
        if expired:
            truth.state = "expired"

    def give_back(self, job_id: str, losses: int) -> None:
        truth = self.truths[job_id]
        truth.losses += losses
        truth.end("given back")
        if truth.cancel_requested:
            truth.state = "cancelled"
        else:
            truth.state = "failed" if truth.losses >= self.options.max_attempts else "queued"

    # What must hold

    @invariant()
    def records_are_what_they_must_be(self) -> None:
        for job_id, truth in self.truths.items():
            job = self.store.get(truth.project, job_id)
            assert (job.state, job.attempt, job.losses) == (truth.state, truth.attempt, truth.losses)
            assert job.done == (not TRANSITIONS[JobState(truth.state)])
            assert [attempt.number for attempt in job.attempts] == list(range(1, truth.attempt + 1))
            assert sum(attempt.ended_at is None for attempt in job.attempts) == (truth.holder is not None)
            assert (job.lease_until is not None) == (truth.holder is not None)
            assert (job.error is not None) == (job.state in ("failed", "expired"))

    @invariant()
    def indexes_agree_with_records(self) -> None:
        for key, states in {
            "fw:leases": RUNNING,
            "fw:deadlines": ("queued",),
            "fw:hints": ("queued",),
            "fw:unsettled": ("succeeded", "failed", "cancelled", "expired"),
        }.items():
            assert self.members(key) == {job_id for job_id, t in self.truths.items() if t.state in states}
        for project, state in product((PROJECT, OTHER), JobState):
            found, _ = self.store.list(project, state=state, limit=1000)
            assert {job.id for job in found} == {
                i for i, t in self.truths.items() if (t.project, t.state) == (project, state)
            }
        queued = {project: self.members(f"fw:line:tensorflow:{project}") for project in (PROJECT, OTHER)}
        for project, ids in queued.items():
            assert ids == {i for i, t in self.truths.items() if (t.project, t.state) == (project, "queued")}
        assert self.members("fw:turns:tensorflow") == {project for project, ids in queued.items() if ids}

    @invariant()
    def histories_are_legal(self) -> None:
        for job_id, truth in self.truths.items():
            events = [
                event for _, event in self.store.events(truth.project, job_id) if event["type"] == "state"
            ]
            states = [JobState(event["state"]) for event in events]
            assert states[0] == "queued"
            assert states[-1] == truth.state
            assert all(new in TRANSITIONS[old] for old, new in pairwise(states))

    def members(self, key: str) -> set[str]:
        found: Any = self.client.zrange(key, 0, -1)
        return {member.decode() for member in found}


EFFORT = effort(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.slow
def test_no_order_of_calls_reaches_an_illegal_state(
    redis_client: redis.Redis, redis_admin: redis.Redis, settings: Settings
) -> None:
    StoreMachine.client, StoreMachine.admin, StoreMachine.options = redis_client, redis_admin, settings
    run_state_machine_as_test(StoreMachine, settings=EFFORT)  # type: ignore[no-untyped-call]
