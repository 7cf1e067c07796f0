"""``/v1/schedules``: made, changed, paused, resumed, run, listed, deleted; and what cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis

from featherweight.schedule import Schedule, ScheduleRun
from service.services import Services
from tasks import keys
from tasks.messages import FIRE, sealed
from tasks.storage import Storage, StorageUnavailable
from tests.service.helpers import PROJECT, SPEC, Caller, assert_problem

CRON = {"type": "cron", "expression": "30 2 * * *", "timezone": "Europe/Berlin"}
HOURLY = {"type": "interval", "seconds": 3600}


def job(caller: Caller, **changes: Any) -> dict[str, Any]:
    return {"model_id": caller.model(), "dataset_id": caller.dataset(), "spec": SPEC, **changes}


def woken(client: redis.Redis) -> list[str]:
    """The schedules that couriers are asked to look at."""
    messages = [sealed(json.loads(raw)) for raw in client.lrange("schedules", 0, -1)]
    assert {message.task for message in messages} <= {FIRE}
    return [message.id for message in messages]


def test_a_schedule_is_made_shown_and_listed(
    caller: Caller, redis_client: redis.Redis, storage: Storage
) -> None:
    body = {"name": "nightly", "trigger": CRON, "job": job(caller), "metadata": {"team": "vision"}}
    answer = caller.post("/v1/schedules", json=body)
    assert answer.status_code == 201
    made = Schedule.model_validate(answer.json)
    assert answer.headers["Location"] == f"/v1/schedules/{made.id}"
    assert made.id.startswith("sch_")
    assert (made.state, made.catch_up, made.overlap, made.runs_made) == ("active", "last", "allow", 0)
    assert made.next_fire_at is not None
    assert made.next_fire_at > made.created_at
    shown = caller.get(f"/v1/schedules/{made.id}")
    assert shown.json == answer.json
    assert caller.get("/v1/schedules").json["data"] == [answer.json]
    assert woken(redis_client) == [made.id]
    assert storage.exists(keys.schedule_key(PROJECT, made.id))
    etag = shown.headers["ETag"]
    assert caller.get(f"/v1/schedules/{made.id}", headers={"If-None-Match": etag}).status_code == 304


def test_the_next_fires_are_told_where_asked_for(caller: Caller) -> None:
    schedule_id = caller.schedule(trigger=CRON)
    fires = caller.get(f"/v1/schedules/{schedule_id}?preview=5").json["next_fires"]
    times = [datetime.fromisoformat(fire) for fire in fires]
    assert len(times) == 5
    assert times == sorted(times)
    assert caller.get(f"/v1/schedules/{schedule_id}").json["next_fires"] is None
    assert fires[0] == caller.get(f"/v1/schedules/{schedule_id}").json["next_fire_at"]
    for wrong in ("0", "101", "x"):
        assert_problem(caller.get(f"/v1/schedules/{schedule_id}?preview={wrong}"), "invalid_request")


@pytest.mark.parametrize(
    ("changes", "pointers"),
    [
        ({"trigger": {"type": "cron", "expression": "61 * * * *"}}, {"/trigger/expression"}),
        ({"trigger": {**CRON, "timezone": "Mars/Phobos"}}, {"/trigger/timezone"}),
        ({"trigger": {"type": "cron", "expression": "*/5 * * * * *"}}, {"/trigger/expression"}),
        ({"trigger": {"type": "interval", "seconds": 59}}, {"/trigger/seconds"}),
        ({"trigger": {"type": "interval", "seconds": "60"}}, {"/trigger/seconds"}),
        ({"trigger": {"type": "moon"}}, {"/trigger"}),
        ({"trigger": {"type": "object_changed", "prefix": "../x", "poll_s": 60}}, {"/trigger/prefix"}),
        (
            {"trigger": {"type": "object_changed", "object": "a//b", "poll_s": 9}},
            {"/trigger/poll_s", "/trigger/object"},
        ),
        ({"trigger": {"type": "object_changed", "poll_s": 60}}, {"/trigger"}),
        ({"ends_at": "2001-01-01T00:00:00Z"}, {"/ends_at"}),
        ({"ends_at": "2099-01-01T00:00:00"}, {"/ends_at"}),
        ({"catch_up": "some", "overlap": "queue"}, {"/catch_up", "/overlap"}),
        ({"regression": {"accuracy_drop": -1}}, {"/regression/accuracy_drop"}),
        ({"max_runs": 0, "colour": "red"}, {"/max_runs", "/colour"}),
        (
            {"job": {"model_id": "mdl_none", "dataset_id": "ds_none", "spec": SPEC}},
            {"/job/model_id", "/job/dataset_id"},
        ),
        ({"job": {"model": {"object": "a/../b"}, "spec": SPEC}}, {"/job/model/object"}),
        ({"job": {"model": {"object": "m"}, "dataset_id": "ds_none", "spec": SPEC}}, {"/job/dataset_id"}),
        ({"job": {"spec": SPEC}}, {"/job"}),
    ],
)  # fmt: skip
def test_what_cannot_be_scheduled_is_refused_where_it_stands(
    caller: Caller, changes: dict[str, Any], pointers: set[str]
) -> None:
    body = {"trigger": HOURLY, "job": job(caller), **changes}
    assert_problem(caller.post("/v1/schedules", json=body), "invalid_request", pointers=pointers)
    assert caller.get("/v1/schedules").json["data"] == []


def test_an_object_that_changed_needs_a_trigger_that_says_which(caller: Caller) -> None:
    body = {"trigger": HOURLY, "job": {"model": {"changed": True}, "spec": SPEC}}
    assert_problem(caller.post("/v1/schedules", json=body), "invalid_request")


def test_the_job_is_checked_as_a_request_for_it_would_be(caller: Caller) -> None:
    body = {"trigger": HOURLY, "job": {"model_id": caller.model(), "spec": SPEC}}
    assert_problem(caller.post("/v1/schedules", json=body), "dataset_required")
    body["job"]["dataset"] = {"object": "data.npz"}
    assert caller.post("/v1/schedules", json=body).status_code == 201


def test_what_is_no_id_names_no_model(caller: Caller) -> None:
    job = {"model_id": "list[bytes | None]", "spec": SPEC}
    trigger = {"type": "interval", "seconds": 3600}
    answer = caller.post("/v1/schedules", json={"trigger": trigger, "job": job})
    assert_problem(answer, "invalid_request", pointers={"/job/model_id"})


def test_the_operator_may_allow_a_schedule_for_each_second(with_settings: Callable[..., Caller]) -> None:
    caller = with_settings(schedule_min_interval_s=1)
    for trigger in ({"type": "interval", "seconds": 1}, {"type": "cron", "expression": "* * * * * *"}):
        assert caller.schedule(trigger=trigger)


def test_a_project_has_no_more_schedules_than_it_may(with_settings: Callable[..., Caller]) -> None:
    caller = with_settings(project_schedules=1)
    schedule_id = caller.schedule()
    body = {"trigger": HOURLY, "job": job(caller)}
    assert_problem(caller.post("/v1/schedules", json=body), "too_many_schedules")
    assert caller("DELETE", f"/v1/schedules/{schedule_id}").status_code == 204
    assert caller.post("/v1/schedules", json=body).status_code == 201


def test_the_same_request_twice_makes_one_schedule(caller: Caller) -> None:
    body, key = {"trigger": HOURLY, "job": job(caller)}, {"Idempotency-Key": "one"}
    first, second = (caller.post("/v1/schedules", json=body, headers=key) for _ in range(2))
    assert first.json == second.json
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len(caller.get("/v1/schedules").json["data"]) == 1


class TestChange:
    def test_what_is_given_replaces_what_was(self, caller: Caller) -> None:
        schedule_id = caller.schedule(name="hourly", max_runs=5)
        before = caller.get(f"/v1/schedules/{schedule_id}").json
        answer = caller(
            "PATCH",
            f"/v1/schedules/{schedule_id}",
            json={"name": None, "overlap": "skip", "trigger": CRON},
        )
        assert answer.status_code == 200, answer.text
        after = answer.json
        changed = {name for name in after if after[name] != before[name]}
        assert changed == {"name", "overlap", "trigger", "next_fire_at", "updated_at"}
        assert (after["name"], after["overlap"], after["max_runs"]) == (None, "skip", 5)

    @pytest.mark.parametrize(
        ("change", "pointers"),
        [
            ({"trigger": None}, None),
            ({"state": "active"}, {"/state"}),
            ({"trigger": {"type": "interval", "seconds": 5}}, {"/trigger/seconds"}),
            ({"job": {"model_id": "mdl_none", "spec": SPEC}}, {"/job/model_id"}),
        ],
    )  # fmt: skip
    def test_what_cannot_be_changed_leaves_it_as_it_was(
        self, caller: Caller, change: dict[str, Any], pointers: set[str] | None
    ) -> None:
        schedule_id = caller.schedule()
        before = caller.get(f"/v1/schedules/{schedule_id}").json
        answer = caller("PATCH", f"/v1/schedules/{schedule_id}", json=change)
        assert_problem(answer, "invalid_request", pointers=pointers)
        assert caller.get(f"/v1/schedules/{schedule_id}").json == before

    def test_one_that_has_ended_goes_on_when_it_may(self, caller: Caller, parts: Services) -> None:
        schedule_id = caller.schedule(max_runs=1)
        path = f"/v1/schedules/{schedule_id}"
        let_time_pass(parts, schedule_id, 3700)
        parts.schedules.firing.look(schedule_id)
        assert caller.get(path).json["state"] == "ended"
        for verb in ("pause", "resume"):
            assert_problem(caller.post(f"{path}/{verb}"), "schedule_ended")
        after = caller("PATCH", path, json={"max_runs": 2}).json
        assert after["state"] == "active"
        assert after["next_fire_at"] is not None


class TestPause:
    def test_nothing_is_made_while_it_is_paused_nor_for_that_time(
        self, caller: Caller, parts: Services
    ) -> None:
        schedule_id = caller.schedule(catch_up="all")
        path = f"/v1/schedules/{schedule_id}"
        for _ in range(2):
            paused = caller.post(f"{path}/pause").json
            assert (paused["state"], paused["next_fire_at"]) == ("paused", None)
        let_time_pass(parts, schedule_id, 3 * 3600 + 100)
        parts.schedules.firing.look(schedule_id)
        for _ in range(2):
            resumed = caller.post(f"{path}/resume").json
            assert resumed["state"] == "active"
        parts.schedules.firing.look(schedule_id)
        assert caller.get(f"{path}/runs").json["data"] == []
        next_fire = datetime.fromisoformat(resumed["next_fire_at"])
        assert timedelta(0) < next_fire - parts.schedules.store.now() <= timedelta(hours=1)

    def test_one_can_be_made_paused(self, caller: Caller) -> None:
        schedule_id = caller.schedule(paused=True)
        shown = caller.get(f"/v1/schedules/{schedule_id}").json
        assert (shown["state"], shown["next_fire_at"]) == ("paused", None)


class TestRunNow:
    def test_its_job_is_there_when_the_answer_is(self, caller: Caller) -> None:
        schedule_id = caller.schedule(paused=True)
        answer = caller.post(f"/v1/schedules/{schedule_id}/run")
        assert answer.status_code == 202
        run = ScheduleRun.model_validate(answer.json)
        assert (run.cause, run.state, run.schedule_id) == ("manual", "submitted", schedule_id)
        job = caller.get(answer.headers["Location"]).json
        assert job["id"] == run.job_id
        assert job["origin"] == {"type": "schedule", "id": schedule_id, "item": f"manual-{run.job_id}"}
        assert caller.get(f"/v1/schedules/{schedule_id}/runs").json["data"] == [answer.json]
        assert caller.get(f"/v1/schedules/{schedule_id}").json["runs_made"] == 0

    def test_the_same_request_twice_makes_one_run(self, caller: Caller) -> None:
        path = f"/v1/schedules/{caller.schedule()}"
        key = {"Idempotency-Key": "now"}
        first, second = (caller.post(f"{path}/run", headers=key) for _ in range(2))
        assert first.json == second.json
        caller.post(f"{path}/run")
        assert len(caller.get(f"{path}/runs").json["data"]) == 2

    def test_the_rule_for_overlaps_holds(self, caller: Caller) -> None:
        path = f"/v1/schedules/{caller.schedule(overlap='skip')}"
        assert caller.post(f"{path}/run").json["state"] == "submitted"
        second = caller.post(f"{path}/run").json
        assert (second["state"], second["skipped_because"], second["job_id"]) == ("skipped", "overlap", None)

    def test_a_job_that_is_refused_says_why(self, caller: Caller, parts: Services) -> None:
        body = job(caller)
        path = f"/v1/schedules/{caller.schedule(job=body)}"
        parts.models.delete(PROJECT, body["model_id"])
        assert_problem(caller.post(f"{path}/run"), "invalid_request", pointers={"/model_id"})
        (run,) = caller.get(f"{path}/runs").json["data"]
        assert (run["state"], run["error"]["code"]) == ("refused", "invalid_request")

    def test_without_an_object_that_changed_there_is_nothing_to_run(self, caller: Caller) -> None:
        trigger = {"type": "object_changed", "prefix": "nightly/"}
        job = {"model": {"changed": True}, "spec": SPEC}
        schedule_id = caller.schedule(trigger=trigger, job=job)
        assert_problem(caller.post(f"/v1/schedules/{schedule_id}/run"), "invalid_request")


def test_what_a_schedule_needs_is_kept_until_it_needs_it_no_more(caller: Caller) -> None:
    first, second = job(caller), job(caller)
    schedule_id = caller.schedule(job=first)
    path = f"/v1/schedules/{schedule_id}"
    model, dataset = f"/v1/models/{first['model_id']}", f"/v1/datasets/{first['dataset_id']}"
    for used in (model, dataset):
        body = assert_problem(caller("DELETE", used), "resource_in_use")
        assert schedule_id in body["detail"]
    # A change that is refused changes nothing of it.
    refused = caller("PATCH", path, json={"job": {**second, "dataset_id": "ds_none"}})
    assert_problem(refused, "invalid_request")
    assert caller("DELETE", f"/v1/models/{second['model_id']}").status_code == 204
    third = {**first, "model_id": caller.model()}
    assert caller("PATCH", path, json={"job": third}).status_code == 200
    assert caller("DELETE", model).status_code == 204
    assert_problem(caller("DELETE", dataset), "resource_in_use")
    assert caller("DELETE", path).status_code == 204
    assert caller("DELETE", dataset).status_code == 204


def test_runs_are_listed_page_by_page(caller: Caller, parts: Services) -> None:
    path = f"/v1/schedules/{caller.schedule()}"
    made = [caller.post(f"{path}/run").json["id"] for _ in range(5)]
    first = caller.get(f"{path}/runs?limit=3").json
    second = caller.get(f"{path}/runs?limit=3&cursor={first['next_cursor']}").json
    assert [run["id"] for run in first["data"] + second["data"]] == made[::-1]
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert_problem(caller.get(f"{path}/runs?cursor=nonsense"), "bad_cursor")


def test_of_a_deleted_schedule_only_its_jobs_are_left(
    caller: Caller, redis_admin: redis.Redis, storage: Storage
) -> None:
    schedule_id = caller.schedule()
    path = f"/v1/schedules/{schedule_id}"
    job_id = caller.post(f"{path}/run").json["job_id"]
    assert caller("DELETE", path).status_code == 204
    for method, rest in (("GET", ""), ("GET", "/runs"), ("POST", "/run"), ("POST", "/pause"), ("DELETE", "")):
        assert_problem(caller(method, path + rest), "not_found")
    assert caller.get(f"/v1/jobs/{job_id}").json["state"] == "queued"
    assert storage.list_keys(keys.schedule_prefix(PROJECT, schedule_id)) == []
    left = list(redis_admin.scan_iter(f"*{schedule_id}*"))
    assert left == []
    assert redis_admin.zscore("fw:schedules:due", schedule_id) is None


def test_without_storage_nothing_is_made_or_changed(
    caller: Caller, parts: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule_id, body = caller.schedule(), {"trigger": HOURLY, "job": job(caller)}

    def fail(*_: Any, **__: Any) -> None:
        raise StorageUnavailable("away")

    monkeypatch.setattr(Storage, "put_json", fail)
    assert_problem(caller.post("/v1/schedules", json=body), "storage_unavailable")
    assert_problem(caller.post(f"/v1/schedules/{schedule_id}/pause"), "storage_unavailable")
    (only,) = caller.get("/v1/schedules").json["data"]
    assert (only["id"], only["state"]) == (schedule_id, "active")
    # A run is not lost: it is made when storage is back.
    run = caller.post(f"/v1/schedules/{schedule_id}/run").json
    assert run["state"] == "pending"
    monkeypatch.undo()
    parts.schedules.firing.look(schedule_id)
    assert caller.get(f"/v1/jobs/{run['job_id']}").status_code == 200


def test_strangers_find_nothing_of_it(caller: Caller, stranger: Caller) -> None:
    schedule_id = caller.schedule(name="acme's")
    assert stranger.get("/v1/schedules").json["data"] == []
    body = {"trigger": HOURLY, "job": job(caller)}
    assert_problem(
        stranger.post("/v1/schedules", json=body),
        "invalid_request",
        pointers={"/job/model_id", "/job/dataset_id"},
    )
    assert_problem(stranger("PATCH", f"/v1/schedules/{schedule_id}", json={"name": "mine"}), "not_found")
    assert caller.get(f"/v1/schedules/{schedule_id}").json["name"] == "acme's"


def let_time_pass(parts: Services, schedule_id: str, by_s: float) -> None:
    store = parts.schedules.store
    record = store.get(PROJECT, schedule_id)
    fields = {name: f"{getattr(record, name).timestamp() - by_s:.6f}" for name in ("anchor", "cursor")}
    assert store.change(record, fields) is not None
