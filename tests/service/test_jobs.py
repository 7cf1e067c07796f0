"""Jobs: asking for them, and every way of watching them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from featherweight.events import LogEvent, ProgressEvent, StageEvent
from featherweight.job import Artifact, Job, JobRequest
from featherweight.problem import problem
from service.eventstream import event_stream
from service.services import Services
from tasks import keys
from tasks.records import Claim, Outcome
from tests.service.helpers import PROJECT, SPEC, Caller, assert_problem

DECAY = {"type": "polynomial_decay"}
FINETUNE = {"technique": "finetune"}
REPORT = b'{"version": 1}'


def claimed(parts: Services, job_id: str) -> Claim:
    """The job, taken by a worker."""
    claim = parts.jobs.claim(job_id, "worker-1")
    assert claim is not None
    return claim


def succeed(parts: Services, job_id: str, **more: bytes) -> None:
    """What a worker does at the end of a job that went well."""
    claim = claimed(parts, job_id)
    parts.jobs.finalizing(claim)
    files = {"report.json": REPORT, "model.tflite": b"\x1c\0\0\0TFL3", "log.txt": b"[info] all went well\n"}
    files |= {name.replace("_", "."): data for name, data in more.items()}
    for name, data in files.items():
        parts.storage.put_bytes(keys.artifact_key(PROJECT, job_id, 1, name), data)
    artifacts = [
        Artifact(name=name, format=name.rpartition(".")[2], bytes=len(files[name]), sha256="0" * 64)
        for name in sorted(files.keys() - {"log.txt"})
    ]
    assert parts.jobs.commit(claim, Outcome.succeeded(artifacts, "smaller"))


def soon(action: Callable[[], object], delay_s: float = 0.3) -> threading.Timer:
    timer = threading.Timer(delay_s, action)
    timer.start()
    return timer


# Asking


def test_a_job_is_recorded_stored_and_announced(caller: Caller, parts: Services) -> None:
    model_id, dataset_id = caller.model(), caller.dataset()
    body = {"model_id": model_id, "dataset_id": dataset_id, "spec": SPEC, "name": "n", "metadata": {"a": "b"}}
    answer = caller.post("/v1/jobs", json=body)
    assert answer.status_code == 202
    job = Job.model_validate(answer.json)
    assert set(answer.json) == set(Job.model_fields)
    assert (job.state, job.done, job.model_id, job.name) == ("queued", False, model_id, "n")
    assert answer.headers["Location"] == f"/v1/jobs/{job.id}"
    assert answer.headers["Retry-After"] == "1"
    assert caller.get(f"/v1/jobs/{job.id}").json == answer.json
    stored = parts.storage.get_json(keys.job_key(PROJECT, job.id))
    assert (stored["id"], stored["request_id"]) == (job.id, answer.headers["X-Request-Id"])
    assert parts.queue.hinted() == {job.id}


@pytest.mark.parametrize(
    ("change", "pointers"),
    [
        ({"spec": None}, {"/spec"}),
        ({"unknown": 1}, {"/unknown"}),
        ({"spec": SPEC | {"unknown": 1}}, {"/spec/unknown"}),
        ({"spec": {"steps": []}}, {"/spec/steps"}),
        ({"spec": {"steps": [{"technique": "shrink"}]}}, {"/spec/steps/0"}),
        ({"spec": {"steps": [{"technique": "prune", "unknown": 1}]}}, {"/spec/steps/0/unknown"}),
        (
            {
                "spec": {
                    "steps": [
                        {
                            "technique": "prune",
                            "schedule": {"type": "polynomial_decay", "final_sparsity": 1.5},
                        }
                    ]
                }
            },
            {"/spec/steps/0/schedule/final_sparsity"},
        ),
        (
            {
                "spec": {
                    "steps": [
                        {"technique": "finetune", "epochs": 0},
                        {"technique": "finetune", "epochs": 10**9},
                    ]
                }
            },
            {"/spec/steps/0/epochs", "/spec/steps/1/epochs"},
        ),
        ({"limits": {"max_run_s": 0}}, {"/limits/max_run_s"}),
        ({"metadata": {"k": "x" * 513}}, {"/metadata/k"}),
        ({"model_id": "mdl_unknown"}, {"/model_id"}),
        ({"dataset_id": "ds_unknown"}, {"/dataset_id"}),
        ({"model_id": "../x", "dataset_id": "a:b"}, {"/model_id", "/dataset_id"}),
    ],
)
def test_what_is_not_valid_is_pointed_at(caller: Caller, change: dict[str, Any], pointers: set[str]) -> None:
    body = {"model_id": caller.model(), "dataset_id": caller.dataset(), "spec": SPEC} | change
    answer = caller.post("/v1/jobs", json=body)
    assert_problem(answer, "invalid_request", pointers=pointers)
    assert caller.get("/v1/jobs").json["data"] == []


def test_a_step_that_needs_data_needs_a_data_set(caller: Caller) -> None:
    answer = caller.post("/v1/jobs", json={"model_id": caller.model(), "spec": SPEC})
    assert_problem(answer, "dataset_required", pointers={"/spec/steps/1", "/spec/steps/2"})
    one_shot = {"steps": [{"technique": "prune"}, {"technique": "quantize", "scheme": "dynamic_int8"}]}
    answer = caller.post("/v1/jobs", json={"model_id": caller.model(), "spec": one_shot})
    assert answer.status_code == 202


def test_a_technique_the_framework_lacks_is_pointed_at(caller: Caller, parts: Services) -> None:
    model_id = caller.model()
    record = parts.models.get(PROJECT, model_id)
    parts.models.put(PROJECT, record.model_copy(update={"framework": "abacus"}))
    body = {"model_id": model_id, "spec": {"steps": [{"technique": "prune"}]}}
    answer = caller.post("/v1/jobs", json=body)
    assert_problem(answer, "unsupported_technique", pointers={"/spec/steps/0/technique", "/spec/outputs/0"})


def test_what_a_tflite_does_not_allow_is_refused_before_it_is_queued(caller: Caller, parts: Services) -> None:
    model = caller.model(b"\x1c\0\0\0TFL3" + bytes(500))
    spec = {"steps": [{"technique": "prune"}], "outputs": ["tflite", "keras"]}
    answer = caller.post("/v1/jobs", json={"model_id": model, "spec": spec})
    problem = assert_problem(
        answer, "unsupported_technique", pointers={"/spec/steps/0/technique", "/spec/outputs/1"}
    )
    assert ".keras" in problem["hint"]
    assert parts.jobs.list(PROJECT)[0] == []


def test_a_queue_that_is_away_delays_the_job_and_loses_nothing(
    caller: Caller, parts: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kombu.exceptions import OperationalError

    def refuse(*_: Any, **__: Any) -> None:
        raise OperationalError

    with monkeypatch.context() as patch:
        patch.setattr(parts.queue, "enqueue", refuse)
        job_id = caller.job()
    assert caller.get(f"/v1/jobs/{job_id}").json["state"] == "queued"


def test_prefer_wait_answers_when_the_job_ends(caller: Caller, parts: Services) -> None:
    body = {"model_id": caller.model(), "dataset_id": caller.dataset(), "spec": SPEC}

    def finish() -> None:
        (record,) = parts.jobs.list(PROJECT)[0]
        succeed(parts, record.id)

    timer = soon(finish)
    answer = caller.post("/v1/jobs", json=body, headers={"Prefer": "respond-async, wait=20"})
    timer.join()
    assert (answer.status_code, answer.json["state"]) == (200, "succeeded")
    assert answer.headers["Preference-Applied"] == "wait=20"


def test_prefer_wait_ends_when_its_time_is_over(caller: Caller) -> None:
    body = {"model_id": caller.model(), "dataset_id": caller.dataset(), "spec": SPEC}
    began = time.monotonic()
    answer = caller.post("/v1/jobs", json=body, headers={"Prefer": "wait=1"})
    assert answer.status_code == 202
    assert 0.9 < time.monotonic() - began < 5
    for odd in ("wait=x", "wait=-1", "wait", "handling=lenient"):
        assert caller.post("/v1/jobs", json=body, headers={"Prefer": odd}).status_code == 202


# Watching


def test_an_etag_saves_sending_the_job_again(caller: Caller, parts: Services) -> None:
    job_id = caller.job()
    etag = caller.get(f"/v1/jobs/{job_id}").headers["ETag"]
    same = caller.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": etag})
    assert (same.status_code, same.data, same.headers["ETag"]) == (304, b"", etag)
    claimed(parts, job_id)
    changed = caller.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": etag})
    assert (changed.status_code, changed.json["state"]) == (200, "running")
    assert changed.headers["ETag"] != etag


def test_a_long_poll_ends_when_the_job_changes(caller: Caller, parts: Services) -> None:
    job_id = caller.job()
    etag = caller.get(f"/v1/jobs/{job_id}").headers["ETag"]
    timer = soon(lambda: claimed(parts, job_id))
    began = time.monotonic()
    answer = caller.get(f"/v1/jobs/{job_id}?wait=20", headers={"If-None-Match": etag})
    assert (answer.status_code, answer.json["state"]) == (200, "running")
    assert time.monotonic() - began < 5
    timer.join()


def test_a_long_poll_without_etag_ends_with_the_job(caller: Caller, parts: Services) -> None:
    job_id = caller.job()
    timer = soon(lambda: succeed(parts, job_id))
    assert caller.get(f"/v1/jobs/{job_id}?wait=20").json["state"] == "succeeded"
    timer.join()
    began = time.monotonic()
    assert caller.get(f"/v1/jobs/{job_id}?wait=20").json["done"] is True
    assert time.monotonic() - began < 1


def test_a_long_poll_in_vain_is_304(caller: Caller) -> None:
    job_id = caller.job()
    etag = caller.get(f"/v1/jobs/{job_id}").headers["ETag"]
    answer = caller.get(f"/v1/jobs/{job_id}?wait=0.5", headers={"If-None-Match": etag})
    assert answer.status_code == 304


def test_when_too_many_wait_a_long_poll_answers_at_once(caller: Caller, parts: Services) -> None:
    job_id = caller.job()
    while parts.waiting.acquire(blocking=False):
        pass
    began = time.monotonic()
    assert caller.get(f"/v1/jobs/{job_id}?wait=20").json["state"] == "queued"
    assert time.monotonic() - began < 2
    assert_problem(caller.get(f"/v1/jobs/{job_id}/events"), "overloaded")


@pytest.mark.parametrize("wait", ["x", "-1", "nan", "inf", ""])
def test_a_wait_that_is_none_is_refused(caller: Caller, wait: str) -> None:
    assert_problem(caller.get(f"/v1/jobs/{caller.job()}?wait={wait}"), "invalid_request")


def test_jobs_are_listed_by_state_and_model(caller: Caller) -> None:
    model_id = caller.model()
    mine = [caller.job(model_id=model_id) for _ in range(3)]
    other = caller.job()
    caller.post(f"/v1/jobs/{mine[1]}/cancel")

    def listed(query: str) -> list[str]:
        return [job["id"] for job in caller.get(f"/v1/jobs?{query}").json["data"]]

    assert listed("") == [other, *mine[::-1]]
    assert listed("state=cancelled") == [mine[1]]
    assert listed(f"model_id={model_id}") == mine[::-1]
    assert listed(f"model_id={model_id}&state=queued") == [mine[2], mine[0]]
    assert listed("model_id=unknown") == []
    page = caller.get("/v1/jobs?limit=3").json
    assert page["has_more"]
    assert listed(f"limit=3&cursor={page['next_cursor']}") == [mine[0]]
    assert_problem(caller.get("/v1/jobs?state=lost"), "invalid_request")


def test_cancelling_twice_is_cancelling_once(caller: Caller, parts: Services) -> None:
    queued, running, done = caller.job(), caller.job(), caller.job()
    claimed(parts, running)
    succeed(parts, done)
    for _ in range(2):
        answer = caller.post(f"/v1/jobs/{queued}/cancel")
        assert (answer.status_code, answer.json["state"]) == (200, "cancelled")
        answer = caller.post(f"/v1/jobs/{running}/cancel")
        assert (answer.status_code, answer.json["cancel_requested"]) == (202, True)
        answer = caller.post(f"/v1/jobs/{done}/cancel")
        assert (answer.status_code, answer.json["state"]) == (200, "succeeded")
    assert_problem(caller.post("/v1/jobs/job_unknown/cancel"), "not_found")


# Events


def parsed(text: str) -> list[dict[str, str]]:
    blocks = [block for block in text.split("\n\n") if block.startswith("id:")]
    return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]


def test_events_are_told_from_the_beginning_to_the_end(caller: Caller, parts: Services) -> None:
    job_id = caller.job()
    timer = soon(lambda: succeed(parts, job_id))
    answer = caller.get(f"/v1/jobs/{job_id}/events")
    assert answer.headers["Content-Type"] == "text/event-stream"
    events = parsed(answer.text)
    timer.join()
    assert [event["event"] for event in events] == ["state"] * 4
    assert '"state":"succeeded"' in events[-1]["data"]


@pytest.mark.parametrize("by_header", [True, False])
def test_events_go_on_where_they_broke_off(caller: Caller, parts: Services, *, by_header: bool) -> None:
    job_id = caller.job()
    succeed(parts, job_id)
    events = parsed(caller.get(f"/v1/jobs/{job_id}/events").text)

    def after(event_id: str) -> Any:
        if by_header:
            return caller.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": event_id})
        return caller.get(f"/v1/jobs/{job_id}/events?after={event_id}")

    assert parsed(after(events[1]["id"]).text) == events[2:]
    assert after(events[-1]["id"]).status_code == 204
    for odd in ("x", "1-1-1", "-1", "$", "1" * 30):
        assert_problem(after(odd), "invalid_request")


def test_a_silent_stream_sends_comments(
    caller: Caller, parts: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.eventstream.KEEP_ALIVE_S", 0.1)
    job_id = caller.job()
    stream = event_stream(parts.jobs, PROJECT, job_id, "0-0")
    assert next(stream).startswith(b"retry: ")
    assert b"queued" in next(stream)
    assert [next(stream), next(stream)] == [b": keep-alive\n\n"] * 2
    stream.close()


def test_a_stream_that_is_left_gives_its_place_back(caller: Caller, parts: Services) -> None:
    job_id = caller.job()
    for _ in range(100):
        caller.get(f"/v1/jobs/{job_id}/events", buffered=False).close()
    assert parts.waiting.acquire(blocking=False)
    parts.waiting.release()


# Logs, report, artifacts


def test_logs_are_what_was_said_so_far_and_then_what_was_stored(caller: Caller, parts: Services) -> None:
    job_id = caller.job()
    assert caller.get(f"/v1/jobs/{job_id}/logs").text == ""
    claim = claimed(parts, job_id)
    parts.jobs.emit(claim, StageEvent(stage="load", index=0, total=3))
    parts.jobs.emit(claim, LogEvent(message="loading a model of 3 layers, größer"))
    parts.jobs.emit(claim, ProgressEvent(stage="load", fraction=0.1))
    answer = caller.get(f"/v1/jobs/{job_id}/logs")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.text == "[info] loading a model of 3 layers, größer\n"
    parts.storage.put_bytes(keys.log_key(PROJECT, job_id, 1), b"the stored log\n")
    failure = problem("bad_model", "it is damaged")
    parts.jobs.commit(claim, Outcome.failed(failure))
    assert caller.get(f"/v1/jobs/{job_id}/logs").text == "the stored log\n"


def test_results_are_there_once_the_job_succeeded(caller: Caller, parts: Services) -> None:
    import httpx

    job_id = caller.job()
    assert caller.get(f"/v1/jobs/{job_id}/artifacts").json["data"] == []
    assert_problem(caller.get(f"/v1/jobs/{job_id}/report"), "job_not_done")
    assert_problem(caller.get(f"/v1/jobs/{job_id}/artifacts/model.tflite"), "job_not_done")
    succeed(parts, job_id)
    report = caller.get(f"/v1/jobs/{job_id}/report")
    assert (report.data, report.headers["Content-Type"]) == (REPORT, "application/json")
    listed = caller.get(f"/v1/jobs/{job_id}/artifacts").json["data"]
    assert [artifact["name"] for artifact in listed] == ["model.tflite", "report.json"]
    answer = caller.get(f"/v1/jobs/{job_id}/artifacts/model.tflite")
    assert answer.status_code == 302
    fetched = httpx.get(answer.headers["Location"])
    assert fetched.content == b"\x1c\0\0\0TFL3"
    assert "attachment" in fetched.headers["Content-Disposition"]
    assert "model.tflite" in fetched.headers["Content-Disposition"]


def test_artifact_is_served_by_the_api_to_callers_that_ask_for_it(caller: Caller, parts: Services) -> None:
    job_id = caller.job()
    succeed(parts, job_id)
    answer = caller.get(f"/v1/jobs/{job_id}/artifacts/model.tflite?redirect=false")
    assert (answer.status_code, answer.data) == (200, b"\x1c\0\0\0TFL3")
    assert answer.content_length == 8
    assert answer.headers["Content-Disposition"] == "attachment; filename=model.tflite"
    assert_problem(
        caller.get(f"/v1/jobs/{job_id}/artifacts/model.tflite?redirect=perhaps"), "invalid_request"
    )


@pytest.mark.parametrize(
    "name", ["log.txt", "..", "..%2Fjob.json", "%2e%2e%2fresult.json", "model", "x" * 500]
)
def test_only_the_jobs_own_files_are_handed_out(caller: Caller, parts: Services, name: str) -> None:
    job_id = caller.job()
    succeed(parts, job_id)
    assert_problem(caller.get(f"/v1/jobs/{job_id}/artifacts/{name}"), "not_found")


def test_the_report_is_a_page_for_who_accepts_one(caller: Caller, parts: Services) -> None:
    job_id = caller.job()
    succeed(parts, job_id, report_html=b"<!doctype html><p>small</p>")
    path = f"/v1/jobs/{job_id}/report"
    browser = caller.get(path, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert browser.data == b"<!doctype html><p>small</p>"
    assert browser.content_type == "text/html; charset=utf-8"
    # Whatever a runner wrote there, nothing in it may run.
    assert "sandbox" in browser.headers["Content-Security-Policy"]
    assert "script-src" not in browser.headers["Content-Security-Policy"]
    for accept in ("application/json", "*/*", "application/json, text/html;q=0.5"):
        answer = caller.get(path, headers={"Accept": accept})
        assert (answer.content_type, answer.data) == ("application/json", REPORT)
        assert "Accept" in answer.vary


def test_a_job_from_before_pages_has_none(caller: Caller, parts: Services) -> None:
    job_id = caller.job()
    succeed(parts, job_id)
    assert_problem(caller.get(f"/v1/jobs/{job_id}/report", headers={"Accept": "text/html"}), "not_found")


def test_receipt_keys_are_open_to_all(caller: Caller, parts: Services) -> None:
    key = {"key_id": "0123456789abcdef", "algorithm": "Ed25519", "public_key": "AAAA"}
    parts.storage.put_json(keys.receipt_key_key(key["key_id"]), key)
    answer = caller.get("/.well-known/receipt_keys", headers={"Authorization": ""})
    assert answer.status_code == 200
    assert key in answer.json["data"]


def test_a_failed_job_says_why_and_has_no_report(caller: Caller, parts: Services) -> None:
    job_id = caller.job()
    failure = problem("bad_model", "it is damaged", stage="load", layer="dense")
    parts.jobs.commit(claimed(parts, job_id), Outcome.failed(failure))
    job = caller.get(f"/v1/jobs/{job_id}").json
    assert (job["state"], job["error"]["code"], job["error"]["layer"]) == ("failed", "bad_model", "dense")
    assert_problem(caller.get(f"/v1/jobs/{job_id}/report"), "not_found")
    assert_problem(caller.get(f"/v1/jobs/{job_id}/artifacts/model.tflite"), "not_found")


def test_a_failed_job_hands_out_what_it_kept(caller: Caller, parts: Services) -> None:
    job_id = caller.job()
    claim = claimed(parts, job_id)
    parts.jobs.finalizing(claim)
    size, digest = parts.storage.put_stream(
        iter([b"weights"]), keys.artifact_key(PROJECT, job_id, 1, "checkpoint.keras"), max_bytes=100
    )
    kept = Artifact(name="checkpoint.keras", format="keras", bytes=size, sha256=digest)
    parts.jobs.commit(claim, Outcome.failed(problem("training_diverged", "NaN"), [kept]))
    listed = caller.get(f"/v1/jobs/{job_id}/artifacts").json["data"]
    assert [item["name"] for item in listed] == ["checkpoint.keras"]
    handed = caller.get(f"/v1/jobs/{job_id}/artifacts/checkpoint.keras?redirect=false")
    assert (handed.status_code, handed.data) == (200, b"weights")
    assert_problem(caller.get(f"/v1/jobs/{job_id}/report"), "not_found")


def test_a_file_that_storage_lost_is_gone(caller: Caller, parts: Services) -> None:
    job_id = caller.job()
    succeed(parts, job_id)
    parts.storage.delete_prefix(keys.attempt_prefix(PROJECT, job_id, 1))
    assert_problem(caller.get(f"/v1/jobs/{job_id}/report"), "artifact_gone")
    assert_problem(caller.get(f"/v1/jobs/{job_id}/artifacts/model.tflite"), "artifact_gone")


def test_the_request_that_is_stored_can_be_read_back(caller: Caller, parts: Services) -> None:
    job_id = caller.job()
    stored = parts.storage.get_json(keys.job_key(PROJECT, job_id))
    JobRequest.model_validate({name: stored[name] for name in JobRequest.model_fields})
