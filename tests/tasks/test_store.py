"""Job records: who may change what, and what lists and events show."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import pytest
import redis
from pydantic import BaseModel

from featherweight.events import LogEvent, ProgressEvent, ResumedEvent, StageEvent
from featherweight.job import Artifact, IllegalTransition, ResumedFrom
from featherweight.problem import problem
from tasks.identifiers import new_id
from tasks.records import Claim, JobRecord, Outcome
from tasks.recordstore import RecordStore
from tasks.settings import Settings
from tasks.store import JobStore, NotFound
from tests.tasks.conftest import PROJECT, request

REFUSED = Outcome.failed(problem("bad_model", "damaged"))


def create(store: JobStore, model_id: str = "mdl_a", project: str = PROJECT, **limits: int) -> JobRecord:
    return store.create(project, request(model_id, **limits), job_id=new_id("job"))


def claimed(store: JobStore, job: JobRecord) -> Claim:
    claim = store.claim(job.id, "worker")
    assert claim is not None
    return claim


def run_out(client: redis.Redis, job: JobRecord) -> None:
    """Let the lease of a job have ended."""
    client.zadd("fw:leases", {job.id: 0}, xx=True)


def succeed(store: JobStore, claim: Claim) -> bool:
    return store.finalizing(claim) and store.commit(claim, Outcome.succeeded([], "smaller"))


# Claims


def test_created_job_is_queued_and_public_without_internals(store: JobStore) -> None:
    job = create(store)
    assert (job.state, job.attempt, job.done, job.queue) == ("queued", 0, False, "tensorflow")
    assert "project" not in job.public().model_dump()
    assert job.public().spec["steps"][0]["technique"] == "prune"


def test_job_is_claimed_once(store: JobStore) -> None:
    job = create(store)
    claims = []
    threads = [
        threading.Thread(target=lambda n=n: claims.append(store.claim(job.id, f"w{n}"))) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(claim is not None for claim in claims) == 1
    assert store.get(PROJECT, job.id).attempt == 1


@pytest.mark.parametrize("job_id", ["job_unknown", "", "a:b", "../x", "x" * 500])
def test_unknown_job_is_not_claimed_and_not_found(store: JobStore, job_id: str) -> None:
    assert store.claim(job_id, "worker") is None
    for call in (store.get, store.version, store.request_cancel, store.events):
        with pytest.raises(NotFound):
            call(PROJECT, job_id)


def test_other_projects_jobs_are_not_found(store: JobStore) -> None:
    job = create(store)
    for call in (store.get, store.version, store.request_cancel, store.events):
        with pytest.raises(NotFound):
            call("another", job.id)
    assert store.get(PROJECT, job.id).state == "queued"
    assert not store.discard("another", job.id)


def test_stale_claim_changes_nothing(store: JobStore, redis_client: redis.Redis) -> None:
    job = create(store)
    stale = claimed(store, job)
    run_out(redis_client, job)
    assert store.expire_leases() == [job.id]
    before = store.get(PROJECT, job.id)
    for _ in range(2):
        assert not store.renew(stale).owned
        assert not store.poll(stale).owned
        assert not store.emit(stale, LogEvent(message="late"))
        assert not store.finalizing(stale)
        assert not succeed(store, stale)
        assert not store.commit(stale, REFUSED)
        assert not store.release(stale, "worker_stopped")
        assert store.get(PROJECT, job.id) == before
        # The same again while another attempt runs.
        fresh = store.claim(job.id, "other") or fresh  # noqa: F821 - bound in the first round
        before = store.get(PROJECT, job.id)
    assert succeed(store, fresh)
    assert store.get(PROJECT, job.id).attempt == 2


def test_claim_with_right_attempt_and_wrong_nonce_changes_nothing(store: JobStore) -> None:
    claim = claimed(store, create(store))
    forged = Claim(claim.job, claim.attempt, "0" * 16)
    assert not store.renew(forged).owned
    assert not store.commit(forged, REFUSED)


def test_lease_that_ran_out_can_be_renewed_while_nobody_took_it(
    store: JobStore, redis_client: redis.Redis
) -> None:
    job = create(store)
    claim = claimed(store, job)
    run_out(redis_client, job)
    assert store.renew(claim).owned
    assert store.expire_leases() == []


def test_commit_asked_again_after_a_lost_answer_is_still_true(store: JobStore) -> None:
    claim = claimed(store, create(store))
    assert succeed(store, claim)
    version = store.version(PROJECT, claim.job_id)
    assert store.commit(claim, Outcome.succeeded([], "smaller"))
    assert store.version(PROJECT, claim.job_id) == version


def test_success_needs_finalizing_first(store: JobStore) -> None:
    claim = claimed(store, create(store))
    with pytest.raises(IllegalTransition, match="running cannot become succeeded"):
        store.commit(claim, Outcome.succeeded([], None))
    assert store.get(PROJECT, claim.job_id).state == "running"


def test_committed_job_shows_its_outcome(store: JobStore) -> None:
    claim = claimed(store, create(store))
    artifact = Artifact(name="model.tflite", format="tflite", bytes=7, sha256="0" * 64)
    store.finalizing(claim)
    store.commit(claim, Outcome.succeeded([artifact], "not_smaller"))
    job = store.get(PROJECT, claim.job_id)
    assert (job.state, job.done, job.verdict, job.artifacts) == ("succeeded", True, "not_smaller", [artifact])
    assert job.created_at <= job.started_at <= job.finalizing_at <= job.ended_at  # type: ignore[operator]
    assert (job.attempts[0].ended_because, job.worker, job.lease_until) == ("succeeded", None, None)


def test_problem_of_a_failed_job_carries_the_requests_id(store: JobStore) -> None:
    job = store.create(PROJECT, request(), job_id=new_id("job"), request_id="req_1")
    store.commit(claimed(store, job), REFUSED)
    error = store.get(PROJECT, job.id).error
    assert error is not None
    assert (error.code, error.request_id) == ("bad_model", "req_1")


# Cancelling


def test_cancel_of_a_queued_job_ends_it(store: JobStore) -> None:
    job = create(store)
    assert store.request_cancel(PROJECT, job.id).state == "cancelled"
    assert store.claim(job.id, "worker") is None


@pytest.mark.parametrize("finalizing", [False, True])
def test_cancel_of_a_running_job_is_seen_by_its_worker(store: JobStore, finalizing: bool) -> None:
    claim = claimed(store, create(store))
    if finalizing:
        store.finalizing(claim)
    first = store.request_cancel(PROJECT, claim.job_id)
    assert first.cancel_requested
    assert not first.done
    assert store.renew(claim).cancel_requested
    assert store.poll(claim).cancel_requested
    assert store.request_cancel(PROJECT, claim.job_id).public() == first.public()
    assert store.commit(claim, Outcome.cancelled())
    assert store.get(PROJECT, claim.job_id).state == "cancelled"


@pytest.mark.parametrize("outcome", [REFUSED, Outcome.cancelled()])
def test_cancel_of_an_ended_job_changes_nothing(store: JobStore, outcome: Outcome) -> None:
    claim = claimed(store, create(store))
    store.commit(claim, outcome)
    before = store.get(PROJECT, claim.job_id)
    assert store.request_cancel(PROJECT, claim.job_id) == before


def test_job_whose_worker_is_lost_while_cancelling_is_cancelled(
    store: JobStore, redis_client: redis.Redis
) -> None:
    job = create(store)
    claimed(store, job)
    store.request_cancel(PROJECT, job.id)
    run_out(redis_client, job)
    assert store.expire_leases() == []
    assert store.get(PROJECT, job.id).state == "cancelled"


# Leases, waiting, attempts


def test_job_that_loses_max_attempts_workers_fails(
    store: JobStore, redis_client: redis.Redis, settings: Settings
) -> None:
    job = create(store)
    for _ in range(settings.max_attempts):
        claimed(store, job)
        run_out(redis_client, job)
        store.expire_leases()
    ended = store.get(PROJECT, job.id)
    assert ended.state == "failed"
    assert ended.error is not None
    assert ended.error.code == "too_many_attempts"
    assert [attempt.ended_because for attempt in ended.attempts] == ["worker_lost"] * settings.max_attempts


def test_release_of_a_stopping_worker_does_not_count(store: JobStore, settings: Settings) -> None:
    job = create(store)
    for _ in range(settings.max_attempts + 2):
        assert store.release(claimed(store, job), "worker_stopped")
    assert store.get(PROJECT, job.id).losses == 0


def test_counted_release_fails_the_job_in_the_end(store: JobStore, settings: Settings) -> None:
    job = create(store)
    answers = [
        store.release(claimed(store, job), "storage_unavailable", counted=True)
        for _ in range(settings.max_attempts)
    ]
    assert answers == [True] * (settings.max_attempts - 1) + [False]
    assert store.get(PROJECT, job.id).state == "failed"


def test_lease_is_kept_by_renewing_and_lost_without(redis_client: redis.Redis, settings: Settings) -> None:
    store = JobStore(redis_client, settings.model_copy(update={"lease_s": 0.4}))
    claim = claimed(store, create(store))
    for _ in range(4):
        time.sleep(0.2)
        assert store.renew(claim).owned
        assert store.expire_leases() == []
    time.sleep(0.5)
    assert store.expire_leases() == [claim.job_id]
    assert not store.renew(claim).owned


def test_job_that_waits_longer_than_max_queue_s_expires(store: JobStore, redis_client: redis.Redis) -> None:
    job, patient = create(store, max_queue_s=1), create(store)
    assert store.expire_queued() == []
    redis_client.zadd("fw:deadlines", {job.id: 0})
    assert store.expire_queued() == [job.id]
    ended = store.get(PROJECT, job.id)
    assert ended.state == "expired"
    assert ended.error is not None
    assert ended.error.code == "queue_timeout"
    assert store.get(PROJECT, patient.id).state == "queued"


def test_job_that_waited_too_long_is_not_claimed(store: JobStore, redis_client: redis.Redis) -> None:
    job = create(store)
    redis_client.zadd("fw:deadlines", {job.id: 0})
    assert store.claim(job.id, "worker") is None
    assert store.get(PROJECT, job.id).state == "expired"


def test_stale_queued_names_a_job_once_per_period(store: JobStore, redis_client: redis.Redis) -> None:
    job = create(store)
    assert store.stale_queued(60) == []
    redis_client.zadd("fw:hints", {job.id: 0})
    assert store.stale_queued(60) == [job.id]
    assert store.stale_queued(60) == []


def test_job_that_was_claimed_is_not_stale(store: JobStore, redis_client: redis.Redis) -> None:
    job = create(store)
    redis_client.zadd("fw:hints", {job.id: 0})
    claimed(store, job)
    assert store.stale_queued(60) == []


def test_ended_job_stays_unsettled_until_it_is_confirmed(store: JobStore, redis_client: redis.Redis) -> None:
    claim = claimed(store, create(store))
    store.commit(claim, REFUSED)
    # The one who committed has some time to do it.
    assert store.unsettled() == []
    redis_client.zadd("fw:unsettled", {claim.job_id: 0})
    assert store.unsettled() == [claim.job_id]
    store.settled(claim.job_id)
    redis_client.zadd("fw:unsettled", {claim.job_id: 0}, xx=True)
    assert store.unsettled() == []


def test_discard_forgets_a_job_that_nobody_has_seen(store: JobStore, redis_admin: redis.Redis) -> None:
    seen, job = create(store), create(store)
    claimed(store, seen)
    assert store.discard(PROJECT, job.id)
    assert not store.discard(PROJECT, seen.id)
    with pytest.raises(NotFound):
        store.get(PROJECT, job.id)
    assert [found.id for found in store.list(PROJECT)[0]] == [seen.id]
    assert not any(job.id.encode() in key for key in redis_admin.scan_iter())


def test_created_twice_under_one_id_is_one_job(store: JobStore) -> None:
    job = create(store)
    assert store.create(PROJECT, request("mdl_b"), job_id=job.id) == job


# Lists


def pages(store: JobStore, limit: int, **filters: Any) -> list[list[str]]:
    found, cursor = [], None
    while True:
        jobs, cursor = store.list(PROJECT, limit=limit, cursor=cursor, **filters)
        found.append([job.id for job in jobs])
        if cursor is None:
            return found


def test_list_is_newest_first_in_pages(store: JobStore) -> None:
    ids = [create(store).id for _ in range(7)]
    create(store, project="another")
    assert pages(store, 3) == [ids[:3:-1], ids[3:0:-1], ids[:1]]
    assert pages(store, 7) == [ids[::-1]]


def test_page_is_not_disturbed_by_newer_jobs(store: JobStore) -> None:
    ids = [create(store).id for _ in range(4)]
    _, cursor = store.list(PROJECT, limit=2)
    create(store)
    jobs, _ = store.list(PROJECT, limit=2, cursor=cursor)
    assert [job.id for job in jobs] == [ids[1], ids[0]]


def test_list_filters_by_state_and_model(store: JobStore) -> None:
    first, second, third = create(store, "mdl_a"), create(store, "mdl_b"), create(store, "mdl_b")
    claimed(store, first)
    assert pages(store, 9, state="queued") == [[third.id, second.id]]
    assert pages(store, 9, state="running") == [[first.id]]
    assert pages(store, 9, model_id="mdl_b") == [[third.id, second.id]]
    assert pages(store, 9, model_id="mdl_a", state="queued") == [[]]
    assert pages(store, 9, state="unheard-of") == [[]]


@pytest.mark.parametrize("cursor", ["", "x", "MS4", "Mi4x", "é", "MS4tNQ", "MS4xIDEK", "=" * 9])
def test_cursor_not_of_ours_is_refused(store: JobStore, cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        store.list(PROJECT, cursor=cursor)


def test_page_of_ten_thousand_jobs_takes_milliseconds(store: JobStore, redis_client: redis.Redis) -> None:
    job = create(store)
    pipeline = redis_client.pipeline(transaction=False)
    for number in range(10_000):
        pipeline.zadd(f"fw:jobs:{PROJECT}", {f"job_{number}": -number - 1})
    pipeline.execute()
    started = time.perf_counter()
    jobs, cursor = store.list(PROJECT, limit=20)
    assert time.perf_counter() - started < 0.1
    assert [found.id for found in jobs] == [job.id]
    assert cursor is not None


# Versions and events


def test_version_changes_with_what_a_caller_can_see(store: JobStore) -> None:
    job = create(store)
    versions = [job.version]

    def note() -> bool:
        versions.append(store.version(PROJECT, job.id))
        return versions[-1] != versions[-2]

    claim = claimed(store, job)
    assert note()
    store.renew(claim)
    store.emit(claim, LogEvent(message="words"))
    assert not note()
    store.emit(claim, StageEvent(stage="load", index=1, total=2))
    assert note()
    store.emit(claim, ProgressEvent(stage="load", fraction=0.1))
    assert note()
    store.request_cancel(PROJECT, job.id)
    assert note()
    store.commit(claim, Outcome.cancelled())
    assert note()


def test_attempt_tells_where_it_went_on_and_keeps_it(store: JobStore) -> None:
    claim = claimed(store, create(store))
    before = store.version(PROJECT, claim.job_id)
    store.emit(claim, ResumedEvent(step=2))
    store.emit(claim, ResumedEvent(step=2, epoch=3, round=1))
    assert store.version(PROJECT, claim.job_id) != before
    assert store.release(claim, "worker_stopped")
    second = store.claim(claim.job_id, "other")
    assert second is not None
    assert not store.emit(claim, ResumedEvent(step=9))
    first_try, second_try = store.get(PROJECT, claim.job_id).attempts
    assert first_try.resumed_from == ResumedFrom(step=2, epoch=3, round=1)
    assert first_try.ended_because == "worker_stopped"
    assert second_try.resumed_from is None


def test_events_come_after_the_one_named(store: JobStore) -> None:
    claim = claimed(store, create(store))
    for number in range(3):
        store.emit(claim, LogEvent(message=str(number)))
    events = store.events(PROJECT, claim.job_id)
    assert [event["type"] for _, event in events] == ["state", "state", "log", "log", "log"]
    assert store.events(PROJECT, claim.job_id, after=events[3][0]) == events[4:]
    assert store.events(PROJECT, claim.job_id, after=events[4][0]) == []
    with pytest.raises(ValueError, match="event id"):
        store.events(PROJECT, claim.job_id, after="yesterday")


def test_waiting_for_events_ends_with_the_first(store: JobStore) -> None:
    claim = claimed(store, create(store))
    last = store.events(PROJECT, claim.job_id)[-1][0]
    timer = threading.Timer(0.2, store.emit, (claim, LogEvent(message="now")))
    timer.start()
    started = time.monotonic()
    ((_, event),) = store.events(PROJECT, claim.job_id, after=last, block_s=5)
    assert 0.1 < time.monotonic() - started < 2
    assert event["message"] == "now"
    assert store.events(PROJECT, claim.job_id, after="9999999999999-0", block_s=0.2) == []


def test_waiting_for_a_change_sleeps_through_what_is_none(store: JobStore) -> None:
    claim = claimed(store, create(store))
    version = store.version(PROJECT, claim.job_id)
    for delay, event in ((0.1, LogEvent(message="x")), (0.3, ProgressEvent(stage="s", fraction=0.5))):
        threading.Timer(delay, store.emit, (claim, event)).start()
    started = time.monotonic()
    job = store.wait_change(PROJECT, claim.job_id, version, 5)
    assert 0.25 < time.monotonic() - started < 2
    assert job.progress.fraction == 0.5


def test_waiting_for_a_change_gives_up_and_never_waits_for_an_ended_job(
    store: JobStore, redis_client: redis.Redis, settings: Settings
) -> None:
    job = create(store)
    patient = _CountsWaits(redis_client)
    waiting = JobStore(patient, settings, clock=lambda: patient.waited_s)  # type: ignore[arg-type]
    assert waiting.wait_change(PROJECT, job.id, job.version, 12) == job
    assert patient.blocks_ms == [5000, 5000, 2000]
    assert waiting.wait_change(PROJECT, job.id, "other", 5) == job
    ended = store.request_cancel(PROJECT, job.id)
    assert waiting.wait_change(PROJECT, job.id, ended.version, 5) == ended
    with pytest.raises(NotFound):
        waiting.wait_change("another", job.id, "1", 1)
    assert len(patient.blocks_ms) == 3


class _CountsWaits:
    """The real Redis, whose blocking reads return at once what there is and are said to have lasted as long
    as they might: what a waiting caller sees when nothing happens."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.blocks_ms: list[int] = []

    @property
    def waited_s(self) -> float:
        return sum(self.blocks_ms) / 1000

    def xread(self, streams: Any, count: int, block: int | None) -> Any:
        if block is not None:
            self.blocks_ms.append(block)
        return self._client.xread(streams, count=count)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def test_waiting_reads_block_in_redis_for_as_long_as_asked(store: JobStore) -> None:
    """No upper bound: how soon a busy machine wakes up is not the store's doing."""
    job = create(store)
    started = time.monotonic()
    assert store.wait_change(PROJECT, job.id, job.version, 0.3) == job
    assert time.monotonic() - started >= 0.3


def test_stream_is_bounded_and_expires_after_the_end(redis_client: redis.Redis, settings: Settings) -> None:
    store = JobStore(redis_client, settings.model_copy(update={"event_stream_max": 100}))
    claim = claimed(store, create(store))
    for number in range(1000):
        store.emit(claim, LogEvent(message=str(number)))
    key = f"fw:job:{claim.job_id}:events"
    assert redis_client.xlen(key) < 300
    assert redis_client.ttl(key) == -1
    store.commit(claim, REFUSED)
    assert 0 < redis_client.ttl(key) <= settings.event_expiry_s  # type: ignore[operator]


# Other records


class Thing(BaseModel):
    id: str
    value: int = 0


@pytest.fixture
def things(redis_client: redis.Redis) -> RecordStore[Thing]:
    return RecordStore(redis_client, "thing", Thing)


def test_records_belong_to_their_project(things: RecordStore[Thing]) -> None:
    things.put("a", Thing(id="t1", value=7))
    assert things.get("a", "t1").value == 7
    for project, record_id in (("b", "t1"), ("a", "t2"), ("a", "b:t1"), ("a", "")):
        with pytest.raises(NotFound):
            things.get(project, record_id)
    assert things.list("b") == ([], None)


def test_records_are_listed_newest_first_and_keep_their_place(things: RecordStore[Thing]) -> None:
    for number in range(5):
        things.put("a", Thing(id=f"t{number}"))
    things.put("a", Thing(id="t1", value=1))
    first, cursor = things.list("a", limit=3)
    second, end = things.list("a", limit=3, cursor=cursor)
    assert [thing.id for thing in itertools.chain(first, second)] == ["t4", "t3", "t2", "t1", "t0"]
    assert end is None


def test_records_expire_and_leave_the_list(things: RecordStore[Thing]) -> None:
    things.put("a", Thing(id="t1"), expire_s=0.1)
    things.put("a", Thing(id="t2"))
    time.sleep(0.2)
    assert [thing.id for thing in things.list("a")[0]] == ["t2"]
    with pytest.raises(NotFound):
        things.get("a", "t1")


def test_put_if_absent_keeps_the_first(things: RecordStore[Thing]) -> None:
    assert things.put("a", Thing(id="t1", value=1), if_absent=True)
    assert not things.put("a", Thing(id="t1", value=2), if_absent=True)
    assert things.get("a", "t1").value == 1


def test_deleted_record_is_gone(things: RecordStore[Thing]) -> None:
    things.put("a", Thing(id="t1"))
    assert things.delete("a", "t1")
    assert not things.delete("a", "t1")
    assert things.list("a") == ([], None)


@pytest.mark.parametrize("project", ["", "a:b", "a/b", ".", "x" * 200])
def test_names_that_could_cross_keys_are_refused(
    things: RecordStore[Thing], store: JobStore, project: str
) -> None:
    with pytest.raises(ValueError, match="not a name"):
        things.put(project, Thing(id="t1"))
    with pytest.raises(ValueError, match="not a name"):
        create(store, project=project)
