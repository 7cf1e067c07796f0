"""``/v1/jobs/{id}/retry`` and ``/clone``: a new job made of the request of another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from flask import Response, g, request

from featherweight.job import Job, JobChanges, JobRequest, JobState, Origin
from service.auth import project
from service.bodies import json_body
from service.errors import ProblemError, validated
from service.idempotency import json_fingerprint
from service.jobs import EXAMPLE, JOB_HEADERS, PREFER_WAIT, SUBMIT_PROBLEMS, after_waiting, bp, submitted
from service.openapi import IDEMPOTENCY_KEY, Body, Shape, operation
from service.services import services
from tasks.records import JobRecord

__all__: list[str] = []

_ANSWERS = {
    200: Shape(Job, "The new job ended while Prefer: wait was waited for."),
    202: Shape(Job, "The new job is queued.", JOB_HEADERS),
}


@bp.post("/<job_id>/retry")
@operation(
    summary="Do again what a job did not do",
    answers=_ANSWERS,
    parameters=[IDEMPOTENCY_KEY, PREFER_WAIT],
    problems=["not_found", "job_not_done", "job_succeeded", *SUBMIT_PROBLEMS],
)
def retry(job_id: str) -> Response:
    """A new job of the same request, with this one as its `origin`. Of one that failed, was cancelled or
    expired, however often it was repeated before; it stays as it is. Takes no body."""
    if _has_body() and json_body(services().settings.max_json_bytes) != {}:
        raise ProblemError(
            "bad_request", "retry takes no body", hint=f"POST /v1/jobs/{job_id}/clone takes changes"
        )

    def wanted() -> JobRequest:
        record = services().jobs.get(project(), job_id)
        _check_may_be_retried(record)
        return _changed(record, {})

    return _again(job_id, "retry", wanted, {})


@bp.post("/<job_id>/clone")
@operation(
    summary="A new job like another, with changes",
    body=Body(JobChanges, {"limits": {"max_run_s": 28_800}, "spec": EXAMPLE["spec"]}, required=False),
    answers=_ANSWERS,
    parameters=[IDEMPOTENCY_KEY, PREFER_WAIT],
    problems=["not_found", *SUBMIT_PROBLEMS],
)
def clone(job_id: str) -> Response:
    """Of a job in any state. The body, which may be left out, is a JSON Merge Patch (RFC 7396) of the job's
    request: what is not named stays, null takes away, and `limits` and `metadata` are merged by their names.
    Only `spec` is replaced as a whole."""
    changes = json_body(services().settings.max_json_bytes) if _has_body() else {}
    if not isinstance(changes, dict):
        raise ProblemError("invalid_request", "the body must be a JSON object")
    return _again(job_id, "clone", lambda: _changed(services().jobs.get(project(), job_id), changes), changes)


def _again(
    job_id: str,
    how: Literal["retry", "clone"],
    wanted: Callable[[], JobRequest],
    changes: Mapping[str, Any],
) -> Response:
    origin = Origin(type=how, id=job_id)
    response = services().ledger.once(
        project(), "job", json_fingerprint(changes), lambda attempt: submitted(attempt, wanted(), origin)
    )
    return after_waiting(response, g.pop("submitted", None))


def _check_may_be_retried(record: JobRecord) -> None:
    if not record.done:
        raise ProblemError(
            "job_not_done",
            f"the job is {record.state}: only one that has ended can be retried",
            hint=f"cancel it first, or POST /v1/jobs/{record.id}/clone makes another like it",
        )
    if record.state == JobState.SUCCEEDED:
        raise ProblemError(
            "job_succeeded",
            "the job has succeeded: there is nothing to retry",
            hint=f"POST /v1/jobs/{record.id}/clone makes another like it",
        )


def _changed(record: JobRecord, changes: Mapping[str, Any]) -> JobRequest:
    """The job's request with the changes; invalid_request with pointers into what they come to."""
    request_of = record.model_dump(mode="json", include=set(JobRequest.model_fields))
    whole = {"spec": changes["spec"]} if changes.get("spec") is not None else {}
    return validated(JobRequest, _merged(request_of, changes) | whole)


def _merged(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), value)
    return merged


def _has_body() -> bool:
    return bool(request.content_length) or "Transfer-Encoding" in request.headers
