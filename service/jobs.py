"""``/v1/jobs``: asking for compression, watching it, and fetching what came of it."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Blueprint, Response, g, redirect, request
from werkzeug.wrappers import Response as WerkzeugResponse

from featherweight.job import Artifact, Job, JobRequest, JobState, Origin
from featherweight.report import Report
from featherweight.resources import Page
from service.auth import project
from service.bodies import json_body
from service.errors import ProblemError, validated
from service.eventstream import event_stream
from service.expiry import all_dated, check_artifacts, dated
from service.idempotency import Attempt, json_fingerprint
from service.openapi import IDEMPOTENCY_KEY, Body, Empty, Parameter, Shape, Text, operation, paging
from service.rendering import JSON, json_answer, page, query_number, streamed
from service.services import services
from service.waiting import hold, preferred_wait, until_done, until_known
from tasks import keys
from tasks.records import JobRecord
from tasks.storage import OCTETS

__all__ = [
    "EXAMPLE",
    "JOB_HEADERS",
    "PREFER_WAIT",
    "SUBMIT_PROBLEMS",
    "after_waiting",
    "bp",
    "submitted",
]

bp = Blueprint("jobs", __name__, url_prefix="/v1/jobs")

_REPORT = "report.json"
_PAGE = "report.html"
_HTML = "text/html"
# A runner made the page out of a caller's names: nothing in it runs, sends or fetches, whatever it holds.
_SEALED = "default-src 'none'; style-src 'unsafe-inline'; sandbox"

EXAMPLE = {
    "model_id": "mdl_abcdefghijklmnopqrstuvwxyz",
    "dataset_id": "ds_abcdefghijklmnopqrstuvwxyz",
    "spec": {
        "version": 1,
        "steps": [
            {
                "technique": "prune",
                "schedule": {"type": "polynomial_decay", "initial_sparsity": 0.5, "final_sparsity": 0.8},
            },
            {"technique": "finetune", "epochs": 2, "batch_size": 128},
            {"technique": "quantize", "scheme": "full_int8"},
        ],
        "outputs": ["tflite"],
    },
    "metadata": {"team": "vision"},
}

_ETAG = {"ETag": "Changes with every change of the job."}
_WAIT_SCHEMA = {"type": "number", "minimum": 0}

JOB_HEADERS = {"Location": "The job.", "Retry-After": "Seconds.", **_ETAG}
PREFER_WAIT = Parameter(
    "Prefer", "wait=30: answer when the job ends, at the latest after 30 s.", place="header"
)
SUBMIT_PROBLEMS = (
    "bad_json",
    "bad_request",
    "payload_too_large",
    "unsupported_media_type",
    "invalid_request",
    "unsupported_technique",
    "unsupported_output",
    "dataset_required",
    "storage_quota_exceeded",
    "too_many_queued_jobs",
    "cpu_quota_exceeded",
    "idempotency_key_reused",
    "idempotency_key_in_flight",
    "storage_unavailable",
)


@bp.post("")
@operation(
    summary="Ask for a model to be compressed",
    body=Body(JobRequest, EXAMPLE),
    answers={
        200: Shape(Job, "The job ended while Prefer: wait was waited for."),
        202: Shape(Job, "The job is queued.", JOB_HEADERS),
    },
    parameters=[IDEMPOTENCY_KEY, PREFER_WAIT],
    problems=SUBMIT_PROBLEMS,
)
def create() -> Response:
    body = json_body(services().settings.max_json_bytes)
    wanted = validated(JobRequest, body)
    response = services().ledger.once(
        project(), "job", json_fingerprint(body), lambda attempt: submitted(attempt, wanted)
    )
    # Outside the ledger: who sends the request again shall not have to wait for this one's wait.
    return after_waiting(response, g.pop("submitted", None))


def submitted(attempt: Attempt, wanted: JobRequest, origin: Origin | None = None) -> Response:
    """The answer about a new job under the attempt's id."""
    record = services().submitter.submit(
        project(), wanted, job_id=attempt.resource_id, request_id=g.request_id, origin=origin
    )
    g.submitted = record
    return _job_answer(record, 202, Location=f"/v1/jobs/{record.id}", Retry_After="1")


def after_waiting(response: Response, record: JobRecord | None) -> Response:
    """The answer that `Prefer: wait` asks for."""
    seconds = preferred_wait()
    if record is None or not seconds:
        return response
    record = until_done(record, seconds, services().jobs.wait_change)
    if record.done:
        response = _job_answer(record, 200, Location=f"/v1/jobs/{record.id}")
    else:
        response = _job_answer(record, 202, Location=f"/v1/jobs/{record.id}", Retry_After="1")
    response.headers["Preference-Applied"] = f"wait={seconds:g}"
    return response


@bp.get("")
@operation(
    summary="The jobs, newest first",
    answers={200: Shape(Page[Job], "A page.")},
    parameters=[
        *paging(),
        Parameter("state", "Only jobs in this state.", {"enum": [state.value for state in JobState]}),
        Parameter("model_id", "Only jobs of this model."),
    ],
    problems=["bad_cursor", "invalid_request"],
)
def index() -> Response:
    state, model_id = request.args.get("state"), request.args.get("model_id")
    if state is not None and state not in set(JobState):
        raise ProblemError(
            "invalid_request", f"the query parameter state must be one of {', '.join(JobState)}"
        )
    return page(
        lambda window: all_dated(
            services().jobs.list(
                project(), state=state, model_id=model_id, limit=window.limit, cursor=window.cursor
            )
        )
    )


@bp.get("/<job_id>")
@operation(
    summary="A job",
    answers={
        200: Shape(
            Job,
            "The job.",
            {
                **_ETAG,
                "Retry-After": "Seconds; where the answer could not be held.",
            },
        ),
        304: Empty("It is still as the ETag in If-None-Match says."),
    },
    parameters=[
        Parameter("wait", "Hold the answer for up to so many seconds.", _WAIT_SCHEMA),
        Parameter("If-None-Match", "The ETag of what is known already.", place="header"),
    ],
    problems=["not_found", "invalid_request"],
)
def show(job_id: str) -> Response:
    """With `wait` the answer is held until the job is no longer as If-None-Match says, or, without
    that header, until it has ended."""
    longest = services().settings.long_poll_max_s
    seconds = min(query_number("wait", 0, 86_400, 0), longest)
    record = services().jobs.get(project(), job_id)
    if seconds and not record.done:
        record = until_known(record, seconds, record.version, services().jobs.wait_change)
    response = _job_answer(record, 200)
    response.make_conditional(request)
    return response


@bp.delete("/<job_id>")
@operation(
    summary="Remove a job that has ended, and all it made",
    answers={
        204: Empty("It is gone, with its files, logs and events."),
        202: Empty("It is gone; its files go as soon as the storage can be reached."),
    },
    problems=["not_found", "job_not_done", "resource_in_use"],
)
def delete(job_id: str) -> Response:
    """One that has not ended is to be cancelled first. Its files do not count any more once they are gone."""
    gone = services().removal.remove_job(project(), job_id)
    return Response(status=204 if gone else 202)


@bp.post("/<job_id>/cancel")
@operation(
    summary="Ask for a job to be stopped",
    answers={200: Shape(Job, "The job has ended."), 202: Shape(Job, "It will be stopped.")},
    problems=["not_found"],
)
def cancel(job_id: str) -> Response:
    """A queued job is cancelled at once, a running one within seconds. One that has ended stays as it
    is, so asking twice does no harm."""
    record = services().jobs.request_cancel(project(), job_id)
    return _job_answer(record, 200 if record.done else 202)


@bp.get("/<job_id>/events")
@operation(
    summary="What happens to a job, as server-sent events",
    answers={
        200: Text("text/event-stream", "Events with id, event and data (JSON), until the job has ended."),
        204: Empty("The job has ended and there is nothing more to say."),
    },
    parameters=[
        Parameter("Last-Event-ID", "Go on after this event.", place="header"),
        Parameter("after", "The same, for clients that cannot set headers."),
    ],
    problems=["not_found", "invalid_request", "overloaded"],
)
def events(job_id: str) -> Response:
    jobs = services().jobs
    after = request.headers.get("Last-Event-ID") or request.args.get("after") or "0-0"
    done = jobs.get(project(), job_id).done
    try:
        waiting = jobs.events(project(), job_id, after=after)
    except ValueError:
        raise ProblemError("invalid_request", "Last-Event-ID is not the id of an event") from None
    if done and not waiting:
        return Response(status=204)  # tells browsers not to come back
    release = hold()
    stream = event_stream(jobs, project(), job_id, after, ending=services().closing.is_set)
    response = Response(stream, content_type="text/event-stream")
    response.headers["X-Accel-Buffering"] = "no"
    response.call_on_close(release)
    return response


@bp.get("/<job_id>/logs")
@operation(
    summary="What a job printed and said, as text",
    answers={200: Text("text/plain", "The log so far, or all of it once the job has ended.")},
    problems=["not_found", "artifacts_expired", "storage_unavailable"],
)
def logs(job_id: str) -> Response:
    record = services().jobs.get(project(), job_id)
    check_artifacts(record)
    return Response(_log(record), content_type="text/plain; charset=utf-8")


def _log(record: JobRecord) -> bytes:
    """The stored log, or what the events say while there is none."""
    if record.done:
        try:
            return services().storage.read(keys.log_key(record.project, record.id, record.attempt))
        except FileNotFoundError:
            pass  # it never ran
    return b"".join(_sentences(record))


def _sentences(record: JobRecord) -> Iterator[bytes]:
    after = "0-0"
    while batch := services().jobs.events(record.project, record.id, after=after):
        for _, event in batch:
            if event.get("type") in ("log", "warning"):
                yield f"[{event.get('level', 'warning')}] {event['message']}\n".encode()
        after = batch[-1][0]


@bp.get("/<job_id>/report")
@operation(
    summary="The report of a job that succeeded",
    answers={200: Shape(Report, "What was done and what it cost.")},
    parameters=[
        Parameter("Accept", "text/html: the same as one page that needs no network.", place="header")
    ],
    problems=["not_found", "job_not_done", "artifact_gone", "artifacts_expired", "storage_unavailable"],
)
def report(job_id: str) -> Response:
    """JSON, or with `Accept: text/html` one page for people."""
    record = _ended(job_id)
    as_page = request.accept_mimetypes.best_match([JSON, _HTML], JSON) == _HTML
    name = _artifact(record, _PAGE if as_page else _REPORT).name
    try:
        body = services().storage.read(keys.artifact_key(record.project, record.id, record.attempt, name))
    except FileNotFoundError:
        raise _gone(name) from None
    response = Response(body, content_type=f"{_HTML}; charset=utf-8" if as_page else JSON)
    response.vary.add("Accept")
    if as_page:
        response.headers["Content-Security-Policy"] = _SEALED
    return response


@bp.get("/<job_id>/artifacts")
@operation(
    summary="The files a job made",
    answers={200: Shape(Page[Artifact], "All of them; none before the job has ended.")},
    problems=["not_found"],
)
def artifacts(job_id: str) -> Response:
    """A job that succeeded has its outputs, report.json and spec.json. One that failed may have kept
    something all the same, which its error names: checkpoint.keras, the model as it was at the end of the
    last epoch before a training diverged. Most have kept nothing."""
    record = services().jobs.get(project(), job_id)
    return json_answer(Page[Artifact](data=record.artifacts, has_more=False))


@bp.get("/<job_id>/artifacts/<name>")
@operation(
    summary="A file a job made",
    answers={
        302: Empty("It can be fetched there for some minutes.", {"Location": "A presigned URL."}),
        200: Text(OCTETS, "The file itself, with redirect=false."),
    },
    parameters=[
        Parameter(
            "redirect",
            "false: answer with the file, for callers that cannot reach the object storage.",
            {"type": "boolean", "default": True},
        )
    ],
    problems=[
        "not_found",
        "job_not_done",
        "artifact_gone",
        "artifacts_expired",
        "invalid_request",
        "storage_unavailable",
    ],
)
def artifact(job_id: str, name: str) -> WerkzeugResponse:
    redirected = _redirected()
    record = _ended(job_id)
    found = _artifact(record, name)
    app = services()
    key = keys.artifact_key(record.project, record.id, record.attempt, found.name)
    if not app.storage.exists(key):
        raise _gone(name)
    if redirected:
        return redirect(
            app.storage.presign_get(key, filename=found.name, expires_s=app.settings.presign_expiry_s)
        )
    chunks = app.storage.stream(key)
    return streamed(chunks, media_type=OCTETS, size=found.bytes, filename=found.name)


def _redirected() -> bool:
    wanted = request.args.get("redirect", "true")
    if wanted not in ("true", "false"):
        raise ProblemError("invalid_request", "redirect is true or false")
    return wanted == "true"


def _job_answer(record: JobRecord, status: int, **headers: str) -> Response:
    response = json_answer(dated(record).public(), status, **headers)
    response.set_etag(record.version)
    return response


def _ended(job_id: str) -> JobRecord:
    """NotFound; job_not_done."""
    record = services().jobs.get(project(), job_id)
    if not record.done:
        raise ProblemError(
            "job_not_done",
            f"the job is {record.state}",
            hint=f"GET /v1/jobs/{record.id}?wait=60 answers when it has ended",
        )
    return record


def _artifact(record: JobRecord, name: str) -> Artifact:
    """One of the job's own; not_found, artifacts_expired. Names are looked up, never made into keys."""
    for found in record.artifacts:
        if found.name == name:
            check_artifacts(record)
            return found
    raise ProblemError("not_found", f"the job, which {record.state}, made no {name[:100]!r}")


def _gone(name: str) -> ProblemError:
    return ProblemError("artifact_gone", f"{name} is no longer stored", hint="run the job again")
