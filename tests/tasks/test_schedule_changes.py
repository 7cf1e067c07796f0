"""Schedules that fire when objects of the inbox change: once for each ETag, after it has settled."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from featherweight.resources import InboxObject
from tasks import keys
from tasks.identifiers import new_id
from tasks.queue import Queue
from tasks.records import ModelRecord
from tasks.recordstore import RecordStore
from tasks.schedules import changes
from tasks.schedules.changes import compare
from tasks.schedules.records import RunRecord
from tasks.settings import Settings
from tasks.storage import Storage
from tests.service.helpers import KERAS, zip_of
from tests.tasks.schedules import SPEC, Almanac

OTHER = zip_of("metadata.json", 200)


@pytest.fixture
def almanac(settings: Settings, redis_client: redis.Redis, storage: Storage, queue: Queue) -> Almanac:
    return Almanac(settings, redis_client, storage, queue)


class Watched:
    """A schedule that looks at an inbox of its own whenever it is told to."""

    def __init__(self, almanac: Almanac, trigger: dict[str, Any] | None = None, **wanted: Any) -> None:
        self.almanac = almanac
        self.project = new_id("key").replace("key_", "p-")
        wanted.setdefault("job", {"model": {"changed": True}, "spec": SPEC})
        self.wanted = {"trigger": {"type": "object_changed", **(trigger or {"prefix": "in/"})}, **wanted}

    def begin(self) -> Watched:
        self.record = self.almanac.schedule(project=self.project, **self.wanted)
        assert self.look() == []
        return self

    def put(self, name: str, data: bytes = KERAS) -> None:
        self.almanac.storage.put_bytes(keys.inbox_prefix(self.project) + name, data)

    def remove(self, name: str) -> None:
        self.almanac.storage.delete(keys.inbox_prefix(self.project) + name)

    def look(self) -> list[RunRecord]:
        store = self.almanac.parts.store
        now = self.almanac.reloaded(self.record)
        assert store.change(now, {"look_at": f"{store.now().timestamp():.6f}"}) is not None
        return self.almanac.look(self.record)


@pytest.fixture
def watched(almanac: Almanac) -> Watched:
    return Watched(almanac)


def test_what_was_there_at_the_beginning_is_no_change(watched: Watched) -> None:
    watched.put("in/old.keras")
    watched.begin()
    assert [watched.look() for _ in range(3)] == [[]] * 3


def test_a_new_object_fires_once_it_has_settled(watched: Watched) -> None:
    watched.begin()
    watched.put("in/new.keras")
    assert watched.look() == []
    (run,) = watched.look()
    assert (run.cause, run.state) == ("object_changed", "submitted")
    assert run.source is not None
    assert run.source["name"] == "in/new.keras"
    assert watched.look() == watched.look() == [run]
    job = watched.almanac.job(run)
    assert job is not None
    model = RecordStore(watched.almanac.client, "model", ModelRecord).get(watched.project, job.model_id)
    assert (model.filename, model.bytes) == ("new.keras", len(KERAS))


def test_an_object_that_goes_on_changing_fires_when_it_stops(watched: Watched) -> None:
    watched.begin()
    for size in (10, 20, 30):
        watched.put("in/growing.keras", zip_of("metadata.json", size))
        assert watched.look() == []
    assert len(watched.look()) == 1


def test_each_version_fires_once_also_one_that_comes_back(watched: Watched) -> None:
    watched.put("in/m.keras", KERAS)
    watched.begin()
    for data, made in ((OTHER, 1), (KERAS, 2), (OTHER, 2), (KERAS, 2)):
        watched.put("in/m.keras", data)
        watched.look()
        assert len(watched.look()) == made
    watched.remove("in/m.keras")
    watched.look()
    watched.put("in/m.keras", OTHER)
    watched.look()
    assert len(watched.look()) == 2


def test_others_than_those_watched_fire_nothing(almanac: Almanac) -> None:
    one = Watched(almanac, {"object": "in/one.keras"}).begin()
    one.put("in/one.keras.part")
    one.put("in/other.keras")
    one.look()
    assert one.look() == []
    one.put("in/one.keras")
    one.look()
    (run,) = one.look()
    assert run.source is not None
    assert run.source["name"] == "in/one.keras"


def test_the_files_of_a_job_may_come_from_the_inbox_at_each_run(almanac: Almanac) -> None:
    named = Watched(
        almanac, {"prefix": "data/"}, job={"model": {"object": "net.keras"}, "spec": SPEC}
    ).begin()
    named.put("data/trigger")
    named.look()
    (run,) = named.look()
    assert run.state == "refused"
    assert run.error is not None
    assert run.error.code == "object_not_found"
    named.put("net.keras")
    named.put("data/trigger", b"again")
    named.look()
    assert named.look()[-1].state == "submitted"


def test_an_object_that_is_no_model_is_refused_with_the_reason(watched: Watched) -> None:
    watched.begin()
    watched.put("in/notes.txt", b"not a model at all")
    watched.look()
    (run,) = watched.look()
    assert run.state == "refused"
    assert run.error is not None
    assert run.error.code == "unknown_file_type"
    assert ("schedule.run_failed", run.id) in watched.almanac.told.events


def test_one_that_changed_again_before_its_job_leaves_it_to_the_newer(watched: Watched) -> None:
    watched.begin()
    watched.put("in/m.keras")
    watched.look()
    # The change is found, and the bytes are others by the time they are copied.
    submit = watched.almanac.parts.firing.submit_pending
    watched.almanac.parts.firing.submit_pending = lambda _: None  # type: ignore[method-assign]
    watched.look()
    watched.put("in/m.keras", OTHER)
    watched.almanac.parts.firing.submit_pending = submit  # type: ignore[method-assign]
    (first,) = watched.look()
    assert (first.state, first.skipped_because) == ("skipped", "changed_again")
    first, second = watched.look()
    assert second.state == "submitted"


def test_more_objects_than_are_looked_at_are_a_problem_one_can_see(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MOST_OBJECTS", 2)
    watched.begin()
    for number in range(3):
        watched.put(f"in/{number}")
    watched.look()
    problem = watched.almanac.reloaded(watched.record).public().problem
    assert problem is not None
    assert problem.code == "too_many_objects"
    watched.remove("in/0")
    watched.look()
    assert watched.almanac.reloaded(watched.record).problem is None


def test_an_inbox_of_another_project_is_not_looked_at(almanac: Almanac) -> None:
    ours, theirs = Watched(almanac).begin(), Watched(almanac).begin()
    ours.put("in/m.keras")
    for watched in (ours, theirs):
        watched.look()
    assert (len(ours.look()), len(theirs.look())) == (1, 0)


def test_two_who_look_at_once_find_a_change_once(watched: Watched) -> None:
    watched.begin()
    watched.put("in/m.keras")
    watched.look()
    record = watched.almanac.reloaded(watched.record)
    store = watched.almanac.parts.store
    assert store.change(record, {"look_at": "1.000000"}) is not None
    stale = store.get(record.project, record.id)
    (run,) = watched.almanac.look(record)
    # As one who read the schedule before the other one had looked.
    watched.almanac.parts.firing._make_changed(stale, store.now())
    assert watched.almanac.runs(record) == [run]


def test_the_first_look_takes_everything_as_known() -> None:
    here = [InboxObject(name="a", bytes=1, etag="x", modified=datetime.now(UTC))]
    first = compare({}, here, is_first=True)
    assert first.changed == []
    second = compare(first.known, here, is_first=False)
    assert (second.changed, second.known) == ([], {})
