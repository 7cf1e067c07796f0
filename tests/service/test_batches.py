"""``/v1/batches`` and ``/v1/batch_files``: what is taken, what is refused, and what can be read of them."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.test import TestResponse

from featherweight.batch import MAX_INLINE_ITEMS
from featherweight.problem import problem
from service.services import NAME, Services
from tasks.records import Outcome
from tasks.settle import Settler
from tests.service.helpers import KERAS, PROJECT, SPEC, Caller, assert_problem, sha256, zip_of

PRUNE = {"steps": [{"technique": "prune"}]}


def made(answer: TestResponse) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json
    assert answer.headers["Location"] == f"/v1/batches/{body['id']}"
    return body


def end_all(parts: Services, code: str | None = None) -> int:
    """End every queued job as a worker would: failed with `code`, or succeeded."""
    settler = Settler(parts.jobs, parts.storage, (parts.batches,))
    count = 0
    while queued := parts.jobs.list(PROJECT, state="queued", limit=1)[0]:
        claim = parts.jobs.claim(queued[0].id, "worker")
        assert claim is not None
        parts.jobs.finalizing(claim)
        error = Outcome.failed(problem(code, "it is")) if code else Outcome.succeeded((), "smaller")
        parts.jobs.commit(claim, error)
        settler.settle(parts.jobs.get(PROJECT, claim.job_id))
        count += 1
    return count


def lines(answer: TestResponse) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert int(answer.headers.get("Content-Length", 0)) == len(answer.data)
    return [json.loads(line) for line in answer.data.splitlines()]


def test_models_times_specs(caller: Caller, parts: Services) -> None:
    models = [caller.model(), caller.model(zip_of("metadata.json", 7))]
    specs = [{"name": "prune", "spec": PRUNE}, {"name": "seeded", "spec": {**PRUNE, "seed": 7}}]
    body = made(caller.post("/v1/batches", json={"models": models, "specs": specs, "name": "all"}))
    # A small batch has begun before it is answered.
    assert (body["state"], body["counts"]["total"], body["counts"]["queued"]) == ("in_progress", 4, 4)
    assert body["source"] == {"type": "models", "input_file_id": None, "prefix": None}
    items = caller.get(f"/v1/batches/{body['id']}/items").json["data"]
    assert [item["custom_id"] for item in items] == [
        f"{model}/{spec}" for model in models for spec in ("prune", "seeded")
    ]
    job = caller.get(f"/v1/jobs/{items[1]['job_id']}").json
    assert job["origin"] == {"type": "batch", "id": body["id"], "item": f"{models[0]}/seeded"}
    assert job["spec"]["seed"] == 7
    assert end_all(parts) == 4
    ended = caller.get(f"/v1/batches/{body['id']}").json
    assert (ended["state"], ended["done"], ended["outcome"]) == ("completed", True, "succeeded")
    results = caller.get(f"/v1/batches/{body['id']}/results")
    assert [line["index"] for line in lines(results)] == [0, 1, 2, 3]
    assert ended["results"] == {
        "lines": 4,
        "bytes": len(results.data),
        "sha256": hashlib.sha256(results.data).hexdigest(),
    }
    assert lines(caller.get(f"/v1/batches/{body['id']}/errors")) == []


def test_what_items_leave_out_is_taken_from_the_defaults(caller: Caller, parts: Services) -> None:
    data = caller.dataset()
    defaults = {
        "spec": SPEC,
        "dataset_id": data,
        "metadata": {"team": "vision", "run": "1"},
        "limits": {"max_run_s": 60},
    }
    items = [
        {"custom_id": "plain", "model_id": caller.model()},
        {
            "custom_id": "own",
            "model_id": caller.model(zip_of("metadata.json", 9)),
            "spec": PRUNE,
            "metadata": {"run": "2"},
            "limits": {"max_run_s": 5},
            "name": "mine",
        },
    ]
    body = made(caller.post("/v1/batches", json={"items": items, "defaults": defaults}))
    found = caller.get(f"/v1/batches/{body['id']}/items").json["data"]
    plain, own = (caller.get(f"/v1/jobs/{item['job_id']}").json for item in found)
    assert (plain["dataset_id"], plain["limits"]["max_run_s"], plain["metadata"]["run"]) == (data, 60, "1")
    assert own["metadata"] == {"team": "vision", "run": "2"}
    assert (own["name"], own["limits"]["max_run_s"], len(own["spec"]["steps"])) == ("mine", 5, 1)


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, {""}),
        ({"items": [], "models": ["m"]}, None),
        ({"items": []}, {"/items"}),
        ({"models": ["m"]}, {""}),
        ({"items": [{"custom_id": "a"}]}, {"/items/0/model_id"}),
        ({"items": [{"custom_id": "a", "model_id": "m", "specs": 1}]}, {"/items/0/specs"}),
        (
            {"items": [{"custom_id": "a", "model_id": "m", "spec": {"steps": [{"technique": "prun"}]}}]},
            None,
        ),
        ({"items": 2 * [{"custom_id": "a", "model_id": "m", "spec": PRUNE}]}, {""}),
        ({"items": (MAX_INLINE_ITEMS + 1) * [{"custom_id": "a", "model_id": "m"}]}, {"/items"}),
        ({"models": ["m", "m"], "defaults": {"spec": PRUNE}}, {""}),
        ({"items": [{"custom_id": "a\n", "model_id": "m", "spec": PRUNE}]}, {"/items/0/custom_id"}),
        ({"models": ["m"], "defaults": {"spec": PRUNE}, "max_concurrent": 0}, {"/max_concurrent"}),
        ({"models": ["m"], "defaults": {"spec": PRUNE}, "on_failure": "ignore"}, {"/on_failure"}),
        (
            {"models": ["m"], "defaults": {"spec": PRUNE}, "limits": {"max_total_s": 0}},
            {"/limits/max_total_s"},
        ),
        ({"input_file_id": "bfl_unknown"}, {"/input_file_id"}),
    ],
    ids=[
        *("nothing", "two", "empty", "no-spec", "no-model", "misspelt", "bad-spec", "twice", "too-many"),
        *("model-twice", "control", "concurrency", "on-failure", "limits", "no-file"),
    ],
)
def test_a_body_that_is_not_valid_is_refused_as_a_whole(
    caller: Caller, body: dict[str, Any], pointers: set[str] | None
) -> None:
    assert_problem(caller.post("/v1/batches", json=body), "invalid_request", pointers=pointers)
    assert caller.get("/v1/batches").json["data"] == []


def test_an_item_that_cannot_be_run_is_invalid_and_the_others_go_on(caller: Caller, parts: Services) -> None:
    items = [
        {"custom_id": "unknown", "model_id": "mdl_unknown", "spec": PRUNE},
        {"custom_id": "no data", "model_id": caller.model(), "spec": SPEC},
        {"custom_id": "good", "model_id": caller.model(), "spec": PRUNE},
        {"custom_id": "no spec", "model_id": caller.model()},
    ]
    body = made(caller.post("/v1/batches", json={"items": items}))
    assert body["counts"]["invalid"] == 3
    assert end_all(parts) == 1
    ended = caller.get(f"/v1/batches/{body['id']}").json
    assert (ended["state"], ended["outcome"]) == ("completed", "partial")
    told = {
        line["custom_id"]: (line["error"]["code"], line["error"]["errors"][0]["pointer"])
        for line in lines(caller.get(f"/v1/batches/{body['id']}/errors"))
    }
    assert told == {
        "unknown": ("invalid_request", "/model_id"),
        "no data": ("dataset_required", "/spec/steps/1"),
        "no spec": ("invalid_request", "/spec"),
    }


def test_a_batch_of_which_nothing_succeeds_has_failed(caller: Caller, parts: Services) -> None:
    models = [caller.model(zip_of("metadata.json", size)) for size in (3, 4)]
    body = made(caller.post("/v1/batches", json={"models": models, "defaults": {"spec": PRUNE}}))
    end_all(parts, "bad_model")
    ended = caller.get(f"/v1/batches/{body['id']}").json
    assert (ended["state"], ended["outcome"]) == ("failed", "failed")
    assert ended["error"]["code"] == "all_items_failed"
    assert ended["counts"]["failed"] == 2


@pytest.mark.parametrize("way", ["upload", "post"])
def test_an_input_file(caller: Caller, parts: Services, way: str) -> None:
    model = caller.model()
    content = b"".join(
        json.dumps({"custom_id": f"n{seed}", "model_id": model, "spec": {**PRUNE, "seed": seed}}).encode()
        + b"\n"
        for seed in range(3)
    )
    if way == "post":
        stored = caller.post("/v1/batch_files?filename=items.jsonl", data=content + b"nonsense")
        assert stored.status_code == 201, stored.text
        file = stored.json
    else:
        wanted = {"kind": "batch", "filename": "i.jsonl", "size": len(content) + 8}
        wanted["sha256"] = sha256(content + b"nonsense")
        upload = caller.post("/v1/uploads", json=wanted).json
        record = parts.uploads.get(PROJECT, upload["id"])
        parts.storage._client.upload_part(
            Bucket=parts.settings.s3_bucket,
            Key=record.key,
            UploadId=record.s3_upload_id,
            PartNumber=1,
            Body=content + b"nonsense",
        )
        completed = caller.post(f"/v1/uploads/{upload['id']}/complete")
        assert completed.status_code == 200, completed.text
        file = caller.get(f"/v1/batch_files/{completed.json['resource_id']}").json
    assert (file["object"], file["format"], file["bytes"]) == ("batch_file", "jsonl", len(content) + 8)
    assert caller.get("/v1/usage").json["stored"]["batch_files"] == len(content) + 8
    body = made(caller.post("/v1/batches", json={"input_file_id": file["id"]}))
    assert (body["state"], body["source"]["input_file_id"]) == ("validating", file["id"])
    parts.batches.work()
    assert end_all(parts) == 3
    ended = caller.get(f"/v1/batches/{body['id']}").json
    assert (ended["state"], ended["counts"]["invalid"]) == ("completed", 1)
    (error,) = lines(caller.get(f"/v1/batches/{body['id']}/errors"))
    assert (error["line"], error["custom_id"], error["error"]["code"]) == (4, None, "bad_json")
    assert caller("DELETE", f"/v1/batch_files/{file['id']}").status_code == 204
    assert caller.get("/v1/usage").json["stored"]["batch_files"] == 0


def test_a_file_that_is_no_jsonl_is_no_batch_file(caller: Caller) -> None:
    assert_problem(caller.post("/v1/batch_files", data=KERAS), "unknown_file_type")
    assert_problem(caller.post("/v1/batch_files", data=b"custom_id,model_id\n"), "unknown_file_type")


def test_an_idempotency_key_makes_one_batch(caller: Caller, parts: Services) -> None:
    body = {"models": [caller.model()], "defaults": {"spec": PRUNE}}
    first, second = (
        caller.post("/v1/batches", json=body, headers={"Idempotency-Key": "once"}) for _ in range(2)
    )
    assert first.json["id"] == second.json["id"]
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len(caller.get("/v1/batches").json["data"]) == 1
    assert end_all(parts) == 1
    changed = caller.post("/v1/batches", json={**body, "name": "other"}, headers={"Idempotency-Key": "once"})
    assert_problem(changed, "idempotency_key_reused")


def test_items_and_batches_come_in_pages(caller: Caller, parts: Services) -> None:
    items = [
        {"custom_id": f"n{seed}", "model_id": "mdl_x", "spec": {**PRUNE, "seed": seed}} for seed in range(5)
    ]
    batches = [made(caller.post("/v1/batches", json={"items": items}))["id"] for _ in range(3)]
    page = caller.get("/v1/batches?limit=2").json
    assert [batch["id"] for batch in page["data"]] == batches[:0:-1]
    rest = caller.get(f"/v1/batches?limit=2&cursor={page['next_cursor']}").json
    assert [batch["id"] for batch in rest["data"]] == batches[:1]
    for _ in ("while it is not over", "and after that"):
        seen, cursor = [], ""
        while cursor is not None:
            found = caller.get(f"/v1/batches/{batches[0]}/items?limit=2{cursor and f'&cursor={cursor}'}").json
            seen += [item["index"] for item in found["data"]]
            cursor = found["next_cursor"]
        assert seen == [0, 1, 2, 3, 4]
        parts.batches.work()
    assert caller.get(f"/v1/batches/{batches[0]}").json["done"]
    for cursor in ("nonsense", "MS54", "4pyT"):
        assert_problem(caller.get(f"/v1/batches/{batches[0]}/items?cursor={cursor}"), "bad_cursor")


def test_cancel_and_delete(caller: Caller, parts: Services) -> None:
    body = made(caller.post("/v1/batches", json={"models": [caller.model()], "defaults": {"spec": PRUNE}}))
    path = f"/v1/batches/{body['id']}"
    assert_problem(caller.get(f"{path}/results"), "batch_not_done")
    assert_problem(caller("DELETE", path), "batch_not_done")
    cancelled = caller.post(f"{path}/cancel")
    assert cancelled.status_code == 202
    assert cancelled.json["counts"]["cancelled"] == 1
    parts.batches.work()
    ended = caller.post(f"{path}/cancel")
    assert (ended.status_code, ended.json["state"]) == (200, "cancelled")
    (item,) = caller.get(f"{path}/items").json["data"]
    assert caller.get(f"/v1/jobs/{item['job_id']}").json["state"] == "cancelled"
    assert caller("DELETE", path).status_code == 204
    assert_problem(caller.get(path), "not_found")
    assert parts.storage.list_keys(f"projects/{PROJECT}/batches/{body['id']}/") == []
    assert caller.get(f"/v1/jobs/{item['job_id']}").status_code == 200


def test_a_long_poll_ends_with_the_batch(caller: Caller, parts: Services) -> None:
    body = made(caller.post("/v1/batches", json={"models": [caller.model()], "defaults": {"spec": PRUNE}}))
    path = f"/v1/batches/{body['id']}"
    etag = caller.get(path).headers["ETag"]
    assert caller.get(path, headers={"If-None-Match": etag}).status_code == 304
    assert caller.get(f"{path}?wait=0.1", headers={"If-None-Match": etag}).status_code == 304
    threading.Timer(0.3, end_all, (parts,)).start()
    began = time.monotonic()
    ended = caller.get(f"{path}?wait=20")
    assert ended.json["state"] == "completed"
    assert time.monotonic() - began < 10


def test_prefer_wait_answers_with_the_end(caller: Caller, parts: Services) -> None:
    item = {"custom_id": "a", "model_id": "mdl_x", "spec": PRUNE}
    answered = threading.Event()

    def work() -> None:
        # As the reaper does: once alone could come before the batch is there.
        while not answered.wait(0.3):
            parts.batches.work()

    worker = threading.Thread(target=work)
    worker.start()
    answer = caller.post("/v1/batches", json={"items": [item]}, headers={"Prefer": "wait=20"})
    answered.set()
    worker.join()
    assert (answer.status_code, answer.json["state"]) == (200, "failed")
    assert answer.headers["Preference-Applied"] == "wait=20"


def test_a_project_has_only_so_many_open_batches(with_settings: Callable[..., Caller]) -> None:
    caller = with_settings(project_open_batches=2)
    body = {"models": [caller.model()], "defaults": {"spec": PRUNE}}
    first, _ = (made(caller.post("/v1/batches", json=body)) for _ in range(2))
    answer = caller.post("/v1/batches", json=body)
    assert_problem(answer, "too_many_open_batches")
    assert answer.headers["Retry-After"] == "60"
    parts: Services = caller._client.application.extensions[NAME]
    caller.post(f"/v1/batches/{first['id']}/cancel")
    parts.batches.work()
    made(caller.post("/v1/batches", json=body))
