"""Fires become runs, each once, and runs get jobs: catching up, overlapping, ending, and two at once."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from featherweight.job import Origin
from tasks import keys
from tasks.identifiers import derived_id
from tasks.queue import Queue
from tasks.schedules.firing import manual_run
from tasks.schedules.parts import chase, fire
from tasks.schedules.restoring import restore_schedules
from tasks.settings import Settings
from tasks.storage import Storage, StorageUnavailable
from tests.tasks.schedules import PROJECT, SPEC, Almanac


@pytest.fixture
def almanac(settings: Settings, redis_client: redis.Redis, storage: Storage, queue: Queue) -> Almanac:
    return Almanac(settings, redis_client, storage, queue)


def test_a_fire_makes_one_job_however_often_one_looks(almanac: Almanac) -> None:
    record = almanac.schedule(since_s=61)
    for _ in range(3):
        (run,) = almanac.look(record)
    assert run.fire_time == record.anchor + timedelta(seconds=60)
    assert run.id == f"{record.id}:{run.fire_time:%Y%m%dT%H%M%SZ}"
    assert (run.state, run.cause, run.attempted) == ("submitted", "time", 1)
    assert 0 < run.late_by_s < 30
    job = almanac.job(run)
    assert job is not None
    assert job.id == derived_id("job", record.id, run.item)
    assert job.origin == Origin(type="schedule", id=record.id, item=run.item)
    assert almanac.storage.exists(keys.job_key(PROJECT, job.id))
    after = almanac.reloaded(record)
    assert (after.runs_made, after.cursor) == (1, run.fire_time)
    assert after.next_fire_at == run.fire_time + timedelta(seconds=60)
    assert almanac.parts.store.due_at(record.id) == after.next_fire_at


def test_nothing_is_made_before_its_time(almanac: Almanac) -> None:
    record = almanac.schedule()
    assert almanac.look(record) == []
    assert almanac.parts.store.due_at(record.id) == record.anchor + timedelta(seconds=60)


@pytest.mark.parametrize(
    ("catch_up", "window_s", "expected"),
    [
        ("skip", 86_400, [("skipped", 10)]),
        ("last", 86_400, [("skipped", 9), ("submitted", 1)]),
        ("all", 86_400, [("submitted", 1)] * 10),
        ("all", 2000, [("skipped", 7), ("submitted", 1), ("submitted", 1), ("submitted", 1)]),
        ("last", 100, [("skipped", 10)]),
    ],
)
def test_fires_missed_while_nobody_looked_are_made_up_for_as_declared(
    almanac: Almanac, catch_up: str, window_s: int, expected: list[tuple[str, int]]
) -> None:
    record = almanac.schedule(
        since_s=6_300,  # ten fires, the last of them 300 s ago
        trigger={"type": "interval", "seconds": 600},
        catch_up=catch_up,
        catch_up_window_s=window_s,
    )
    runs = almanac.look(record)
    assert [(run.state, run.fires) for run in runs] == expected
    skipped = [run for run in runs if run.state == "skipped"]
    assert all(run.skipped_because == "missed" and run.job_id is None for run in skipped)
    if skipped:
        assert skipped[0].first_fire_time == record.anchor + timedelta(seconds=600)
    assert almanac.look(record) == runs


def test_a_fire_a_little_late_is_not_missed(almanac: Almanac) -> None:
    record = almanac.schedule(since_s=620, trigger={"type": "interval", "seconds": 600}, catch_up="skip")
    assert [run.state for run in almanac.look(record)] == ["submitted"]


def test_thousands_of_missed_fires_are_worked_off_in_shares(almanac: Almanac) -> None:
    record = almanac.schedule(since_s=1300.5, trigger={"type": "interval", "seconds": 1}, catch_up="last")
    runs = almanac.look(record)
    assert [run.state for run in runs[:-1]] == ["skipped"] * (len(runs) - 1)
    assert runs[-1].state == "submitted"
    assert sum(run.fires for run in runs) >= 1300


def test_two_who_look_at_once_make_each_run_once(almanac: Almanac) -> None:
    record = almanac.schedule(since_s=40.2, trigger={"type": "interval", "seconds": 1}, catch_up="all")
    others = [almanac.made_anew() for _ in range(4)]
    threads = [threading.Thread(target=each.firing.look, args=(record.id,)) for each in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runs = almanac.look(record)
    assert len({run.item for run in runs}) == len(runs) >= 40
    assert {run.state for run in runs} == {"submitted"}
    jobs = [job for job in (almanac.job(run) for run in runs) if job is not None]
    assert len({job.id for job in jobs}) == len(runs)
    listed, _ = almanac.jobs.list(PROJECT, limit=100)
    assert len(listed) == len(runs)
    assert almanac.reloaded(record).runs_made == len(runs)


def test_a_run_made_by_somebody_who_died_gets_its_job_from_the_next(almanac: Almanac) -> None:
    record = almanac.schedule(since_s=61)

    class Died(Exception):
        pass

    def die(*_: Any) -> None:
        raise Died

    dying = almanac.made_anew()
    dying.firing.submit_pending = die  # type: ignore[method-assign]
    with pytest.raises(Died):
        dying.firing.look(record.id)
    (run,) = almanac.runs(record)
    assert run.state == "pending"
    assert almanac.job(run) is None
    (run,) = almanac.look(record)
    assert run.state == "submitted"
    assert almanac.job(run) is not None


class TestOverlap:
    def test_skip_makes_none_while_the_last_is_at_work(self, almanac: Almanac) -> None:
        record = almanac.schedule(
            since_s=121, overlap="skip", catch_up="all", trigger={"type": "interval", "seconds": 60}
        )
        first, second = almanac.look(record)
        assert (first.state, second.state, second.skipped_because) == ("submitted", "skipped", "overlap")
        assert second.job_id is None
        assert almanac.reloaded(record).runs_made == 1

    def test_skip_goes_on_after_the_end(self, almanac: Almanac) -> None:
        record = almanac.schedule(since_s=61, overlap="skip")
        (run,) = almanac.look(record)
        almanac.end(run)
        shift(almanac, record, 61)
        assert [run.state for run in almanac.look(record)] == ["succeeded", "submitted"]

    def test_allow_makes_both(self, almanac: Almanac) -> None:
        record = almanac.schedule(since_s=121, catch_up="all")
        assert [run.state for run in almanac.look(record)] == ["submitted", "submitted"]

    def test_cancel_previous_has_the_last_cancelled(self, almanac: Almanac) -> None:
        record = almanac.schedule(since_s=121, overlap="cancel_previous", catch_up="all")
        first, second = almanac.look(record)
        jobs = [almanac.job(first), almanac.job(second)]
        assert [job.state for job in jobs if job] == ["cancelled", "queued"]
        almanac.end(first, "cancelled")
        assert almanac.runs(record)[0].state == "cancelled"


class TestEnd:
    def test_after_max_runs_there_is_none(self, almanac: Almanac) -> None:
        record = almanac.schedule(since_s=301, catch_up="all", max_runs=2)
        assert [run.state for run in almanac.look(record)] == ["submitted", "submitted"]
        after = almanac.reloaded(record)
        assert (after.state, after.next_fire_at, after.runs_made) == ("ended", None, 2)
        assert almanac.parts.store.due_at(record.id) is None

    def test_after_ends_at_there_is_none(self, almanac: Almanac) -> None:
        end = almanac.parts.store.now() - timedelta(seconds=100)
        record = almanac.schedule(since_s=301, catch_up="all", ends_at=end.isoformat())
        runs = almanac.look(record)
        assert [run.fire_time for run in runs] == [
            record.anchor + timedelta(seconds=60 * n) for n in (1, 2, 3)
        ]
        assert almanac.reloaded(record).state == "ended"

    def test_one_that_is_paused_makes_none(self, almanac: Almanac) -> None:
        record = almanac.schedule(since_s=301, paused=True)
        assert almanac.look(record) == []
        assert almanac.parts.store.due_at(record.id) is None


class TestRefusal:
    def test_a_job_that_cannot_be_is_refused_and_told(self, almanac: Almanac) -> None:
        record = almanac.schedule(since_s=61, job={"model_id": "mdl_nobodys", "spec": SPEC})
        (run,) = almanac.look(record)
        assert run.state == "refused"
        assert run.error is not None
        assert run.error.code == "invalid_request"
        assert run.job_id is None
        assert almanac.told.events["schedule.run_failed", run.id]["error"]["code"] == "invalid_request"
        assert almanac.parts.store.active(record) == []

    def test_a_full_queue_is_waited_for(self, almanac: Almanac) -> None:
        record = almanac.schedule(since_s=61)
        full = almanac.made_anew(project_queued_jobs=1)
        almanac.jobs.create(PROJECT, request(), job_id="job_other")
        full.firing.look(record.id)
        (run,) = almanac.runs(record)
        assert (run.state, run.attempted) == ("pending", 1)
        assert run.error is not None
        assert run.error.code == "too_many_queued_jobs"
        again = almanac.parts.store.due_at(record.id)
        assert again is not None
        assert again > almanac.parts.store.now()
        almanac.client.zadd(f"fw:schedule:{record.id}:pending", {run.item: 0})
        (run,) = almanac.look(record)
        assert (run.state, run.attempted, run.error) == ("submitted", 2, None)

    def test_while_storage_is_away_the_run_stays_due(self, almanac: Almanac) -> None:
        record = almanac.schedule(since_s=61)
        settings = almanac.settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"})
        away = Almanac(settings, almanac.client, Storage(settings), almanac.queue)
        with pytest.raises(StorageUnavailable):
            away.parts.firing.look(record.id)
        (run,) = almanac.runs(record)
        assert run.state == "pending"
        due = almanac.parts.store.due_at(record.id)
        assert due is not None
        assert due <= almanac.parts.store.now()
        assert [run.state for run in almanac.look(record)] == ["submitted"]


class TestCourier:
    def test_it_has_itself_woken_when_there_is_something_to_do(self, almanac: Almanac) -> None:
        record = almanac.schedule(since_s=61)
        woken: dict[str, datetime | None] = {}
        fire(almanac.parts, woken.__setitem__)(record.id)
        assert woken == {record.id: record.anchor + timedelta(seconds=120)}
        fire(almanac.parts, woken.__setitem__)("sch_gone")
        assert woken["sch_gone"] is None

    def test_what_fails_is_not_tried_again_at_once(
        self, almanac: Almanac, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        record = almanac.schedule(since_s=61)

        def fail(*_: Any, **__: Any) -> None:
            raise StorageUnavailable("away")

        monkeypatch.setattr(Storage, "put_json", fail)
        woken: dict[str, datetime | None] = {}
        with pytest.raises(StorageUnavailable):
            fire(almanac.parts, woken.__setitem__)(record.id)
        again = woken[record.id]
        assert again is not None
        assert timedelta(seconds=5) < again - datetime.now(UTC) < timedelta(seconds=30)


class TestReaper:
    def test_it_fires_what_nobody_was_woken_for(self, almanac: Almanac) -> None:
        late, early = almanac.schedule(since_s=70), almanac.schedule(since_s=61)
        chase(almanac.parts, almanac.client, almanac.queue)()
        assert [run.state for run in almanac.runs(late)] == ["submitted"]
        # Not overdue yet: its message may still come.
        assert almanac.runs(early) == []
        assert almanac.client.llen("schedules") == 1

    def test_one_that_cannot_be_read_keeps_no_other_from_firing(self, almanac: Almanac) -> None:
        broken, sound = almanac.schedule(since_s=80), almanac.schedule(since_s=70)
        almanac.client.hset(f"fw:schedule:{broken.id}", "wanted", "{}")
        chase(almanac.parts, almanac.client, almanac.queue)()
        assert [run.state for run in almanac.runs(sound)] == ["submitted"]

    def test_schedules_that_take_time_are_left_to_the_courier(self, almanac: Almanac) -> None:
        job = {"model": {"object": "nightly.keras"}, "spec": SPEC}
        record = almanac.schedule(since_s=70, job=job)
        chase(almanac.parts, almanac.client, almanac.queue)()
        assert almanac.runs(record) == []
        assert almanac.client.llen("schedules") == 1


def test_old_runs_are_dropped_with_their_copies(almanac: Almanac, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.schedules.store.KEPT_RUNS", 3)
    record = almanac.schedule(since_s=301, catch_up="all")
    first, *_ = almanac.look(record)
    almanac.end(first)
    shift(almanac, record, 61)
    runs = almanac.look(record)
    assert first.item not in {run.item for run in runs}
    # The others have jobs that have not ended.
    assert len(runs) == 5
    prefix = keys.schedule_prefix(PROJECT, record.id)
    kept = {key.removeprefix(f"{prefix}runs/") for key in almanac.storage.list_keys(f"{prefix}runs/")}
    assert kept == {f"{run.item}.json" for run in runs}


def test_a_run_by_hand_counts_neither_as_a_fire_nor_for_max_runs(almanac: Almanac) -> None:
    record = almanac.schedule(max_runs=1)
    store = almanac.parts.store
    assert store.make(record, [manual_run(record, "job_mine", store.now())], {}) == []
    (run,) = almanac.look(record)
    assert (run.cause, run.state, run.job_id) == ("manual", "submitted", "job_mine")
    after = almanac.reloaded(record)
    assert (after.runs_made, after.state) == (0, "active")


class TestRestoring:
    def test_all_is_there_again_after_redis_was_lost(self, almanac: Almanac) -> None:
        record = almanac.schedule(since_s=181, catch_up="all", name="nightly")
        runs = almanac.look(record)
        almanac.end(runs[0])
        before = almanac.runs(record)
        forget(almanac, record)
        restored = restore(almanac)
        assert restored == 1
        assert almanac.runs(record) == before
        after = almanac.reloaded(record)
        assert (after.wanted, after.cursor) == (record.wanted, runs[-1].fire_time)
        assert after.runs_made == 3
        # Nothing is made twice, and what comes next is.
        assert almanac.look(record) == before
        shift(almanac, record, 61)
        assert len(almanac.look(record)) == 4
        assert restore(almanac) == 0

    def test_what_cannot_be_read_is_told_and_keeps_nothing_else_back(self, almanac: Almanac) -> None:
        record = almanac.schedule()
        forget(almanac, record)
        bad = keys.schedule_key(PROJECT, "sch_bad")
        moved = keys.schedule_key(PROJECT, "sch_moved")
        almanac.storage.put_json(bad, {"id": "sch_bad"})
        almanac.storage.put_json(moved, record.model_dump(mode="json"))
        done = restore_schedules(PROJECT, almanac.storage, almanac.parts)
        assert (done.restored, done.present, done.unreadable.keys()) == (1, 0, {bad, moved})
        assert almanac.reloaded(record).wanted == record.wanted

    def test_a_job_that_ended_meanwhile_ends_its_run(self, almanac: Almanac) -> None:
        record = almanac.schedule(since_s=61)
        (run,) = almanac.look(record)
        job = almanac.job(run)
        assert job is not None
        ended = job.model_copy(update={"state": "failed", "done": True})
        almanac.storage.put_json(keys.result_key(PROJECT, job.id), ended.model_dump(mode="json"))
        forget(almanac, record)
        restore(almanac)
        assert [run.state for run in almanac.runs(record)] == ["failed"]


def request() -> Any:
    from tests.tasks.conftest import request

    return request()


def restore(almanac: Almanac) -> int:
    done = restore_schedules(PROJECT, almanac.storage, almanac.parts)
    assert done.unreadable == {}
    return done.restored


def forget(almanac: Almanac, record: Any) -> None:
    """Redis has lost the schedule; the storage has everything of others removed, too."""
    almanac.parts.store.delete(PROJECT, record.id)
    for key in almanac.storage.list_keys(keys.schedules_prefix(PROJECT)):
        if record.id not in key:
            almanac.storage.delete(key)


def shift(almanac: Almanac, record: Any, by_s: float) -> None:
    """Let time pass for this schedule: all in it was `by_s` earlier. Not by a whole period, or the next fire
    is one that has been."""
    now = almanac.reloaded(record)
    fields = {
        name: f"{getattr(now, name).timestamp() - by_s:.6f}" for name in ("anchor", "cursor", "look_at")
    }
    assert almanac.parts.store.change(now, fields) is not None
