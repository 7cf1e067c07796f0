"""A new job made of the request of another: the same again, or with changes."""

from __future__ import annotations

from typing import Any

import pytest

from featherweight.problem import problem
from service.services import Services
from tasks import keys
from tasks.records import Outcome
from tests.service.helpers import PROJECT, SPEC, Caller, assert_problem

LIMITS = {"max_queue_s": 600, "max_run_s": 60, "max_total_s": 3600}
METADATA = {"team": "vision", "run": "7"}


def end(parts: Services, job_id: str, how: str) -> None:
    """Let a queued job end, or begin."""
    if how == "cancelled":
        parts.jobs.request_cancel(PROJECT, job_id)
        return
    if how == "expired":
        parts.redis.zadd("fw:deadlines", {job_id: 0})
        parts.jobs.expire_queued()
        return
    claim = parts.jobs.claim(job_id, "worker")
    assert claim is not None
    assert claim.job_id == job_id
    if how == "failed":
        parts.jobs.commit(claim, Outcome.failed(problem("runner_crashed", "it crashed")))
    if how in ("finalizing", "succeeded"):
        parts.jobs.finalizing(claim)
    if how == "succeeded":
        parts.jobs.commit(claim, Outcome.succeeded([], "smaller"))


def original(caller: Caller) -> str:
    return caller.job(name="first", metadata=METADATA, limits=LIMITS)


def request_of(job: dict[str, Any]) -> dict[str, Any]:
    return {name: job[name] for name in ("model_id", "dataset_id", "spec", "name", "metadata", "limits")}


@pytest.mark.parametrize("how", ["failed", "cancelled", "expired"])
def test_a_job_that_did_not_succeed_is_done_again_by_a_new_one(
    caller: Caller, parts: Services, how: str
) -> None:
    job_id = original(caller)
    end(parts, job_id, how)
    before = caller.get(f"/v1/jobs/{job_id}").json
    answer = caller.post(f"/v1/jobs/{job_id}/retry")
    assert answer.status_code == 202, answer.text
    again = answer.json
    assert again["id"] != job_id
    assert answer.headers["Location"] == f"/v1/jobs/{again['id']}"
    assert again["origin"] == {"type": "retry", "id": job_id, "item": None}
    assert (again["state"], again["attempt"], again["error"]) == ("queued", 0, None)
    assert request_of(again) == request_of(before)
    assert caller.get(f"/v1/jobs/{job_id}").json == before
    # It is announced, and has its durable copy.
    assert again["id"] in parts.queue.hinted()
    assert parts.storage.get_json(keys.job_key(PROJECT, again["id"]))["origin"]["id"] == job_id
    assert caller.post(f"/v1/jobs/{again['id']}/retry", json={}).status_code == 409


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("queued", "job_not_done"),
        ("running", "job_not_done"),
        ("finalizing", "job_not_done"),
        ("succeeded", "job_succeeded"),
    ],
)
def test_others_are_not_retried_but_can_be_cloned(
    caller: Caller, parts: Services, how: str, code: str
) -> None:
    job_id = original(caller)
    if how != "queued":
        end(parts, job_id, how)
    assert "clone" in assert_problem(caller.post(f"/v1/jobs/{job_id}/retry"), code)["hint"]
    answer = caller.post(f"/v1/jobs/{job_id}/clone")
    assert answer.status_code == 202, answer.text
    assert request_of(answer.json) == request_of(caller.get(f"/v1/jobs/{job_id}").json)
    assert answer.json["origin"] == {"type": "clone", "id": job_id, "item": None}


@pytest.mark.parametrize("verb", ["retry", "clone"])
def test_the_same_idempotency_key_makes_one_job(caller: Caller, parts: Services, verb: str) -> None:
    job_id = original(caller)
    end(parts, job_id, "failed")
    first, second, other = (
        caller.post(f"/v1/jobs/{job_id}/{verb}", headers={"Idempotency-Key": key}) for key in "aab"
    )
    assert first.json == second.json
    assert second.headers["Idempotency-Replayed"] == "true"
    assert other.json["id"] != first.json["id"]
    another = original(caller)
    end(parts, another, "cancelled")
    reused = caller.post(f"/v1/jobs/{another}/{verb}", headers={"Idempotency-Key": "a"})
    assert_problem(reused, "idempotency_key_reused")


def test_a_clone_has_what_is_given_and_else_what_the_original_has(caller: Caller) -> None:
    job_id = original(caller)
    dataset = caller.dataset()
    changes = {
        "dataset_id": dataset,
        "name": None,
        "metadata": {"run": "8", "team": None, "new": "x"},
        "limits": {"max_run_s": 90, "max_total_s": None},
        "spec": {"steps": [{"technique": "quantize", "scheme": "full_int8"}]},
    }
    answer = caller.post(f"/v1/jobs/{job_id}/clone", json=changes)
    assert answer.status_code == 202, answer.text
    made, first = answer.json, caller.get(f"/v1/jobs/{job_id}").json
    assert made["model_id"] == first["model_id"]
    assert made["dataset_id"] == dataset
    assert made["name"] is None
    assert made["metadata"] == {"run": "8", "new": "x"}
    assert made["limits"] == {"max_queue_s": 600, "max_run_s": 90, "max_total_s": None}
    # The spec is never a mixture of two.
    assert [step["technique"] for step in made["spec"]["steps"]] == ["quantize"]
    assert request_of(caller.get(f"/v1/jobs/{job_id}").json) == request_of(first)


def test_a_clone_of_another_model_without_a_data_set(caller: Caller) -> None:
    job_id = original(caller)
    model = caller.model()
    spec = {"steps": [{"technique": "quantize", "scheme": "dynamic_int8"}]}
    answer = caller.post(
        f"/v1/jobs/{job_id}/clone", json={"model_id": model, "dataset_id": None, "spec": spec}
    )
    assert (answer.json["model_id"], answer.json["dataset_id"]) == (model, None)


@pytest.mark.parametrize(
    ("changes", "code", "pointers"),
    [
        ({"state": "queued"}, "invalid_request", {"/state"}),
        ({"model_id": None}, "invalid_request", {"/model_id"}),
        ({"model_id": "mdl_unknown"}, "invalid_request", {"/model_id"}),
        ({"dataset_id": None}, "dataset_required", None),
        ({"limits": {"max_run_s": 0}}, "invalid_request", {"/limits/max_run_s"}),
        ({"limits": {"max_total_s": 10**9}}, "invalid_request", {"/limits/max_total_s"}),
        ({"limits": 7}, "invalid_request", {"/limits"}),
        ({"metadata": {"run": 8}}, "invalid_request", {"/metadata/run"}),
        ({"spec": {"steps": []}}, "invalid_request", {"/spec/steps"}),
        ({"spec": {**SPEC, "outputs": ["coreml"]}}, "invalid_request", {"/spec/outputs/0"}),
        ([], "invalid_request", None),
    ],
    ids=str,
)
def test_changes_that_come_to_no_job_are_refused_with_a_pointer(
    caller: Caller, changes: Any, code: str, pointers: set[str] | None
) -> None:
    job_id = original(caller)
    answer = caller.post(f"/v1/jobs/{job_id}/clone", json=changes)
    assert_problem(answer, code, pointers=pointers)
    assert len(caller.get("/v1/jobs").json["data"]) == 1


def test_retry_takes_no_changes_and_says_who_does(caller: Caller, parts: Services) -> None:
    job_id = original(caller)
    end(parts, job_id, "failed")
    refused = assert_problem(caller.post(f"/v1/jobs/{job_id}/retry", json={"name": "x"}), "bad_request")
    assert "clone" in refused["hint"]


def test_a_model_that_is_gone_meanwhile_is_told(caller: Caller, parts: Services) -> None:
    job_id = original(caller)
    end(parts, job_id, "failed")
    model = caller.get(f"/v1/jobs/{job_id}").json["model_id"]
    assert caller("DELETE", f"/v1/models/{model}").status_code == 204
    assert_problem(caller.post(f"/v1/jobs/{job_id}/retry"), "invalid_request", pointers={"/model_id"})
    assert_problem(caller.post(f"/v1/jobs/{job_id}/clone"), "invalid_request", pointers={"/model_id"})


def test_unknown_jobs_are_not_found(caller: Caller, stranger: Caller) -> None:
    job_id = original(caller)
    for verb in ("retry", "clone"):
        assert_problem(caller.post(f"/v1/jobs/job_unknown/{verb}"), "not_found")
        assert_problem(stranger.post(f"/v1/jobs/{job_id}/{verb}"), "not_found")
