"""``/v1/schedules``: jobs made at times, or when objects change."""

from __future__ import annotations

from itertools import islice

from flask import Blueprint, Response, request

from featherweight.resources import Page
from featherweight.schedule import Schedule, ScheduleChange, ScheduleRequest, ScheduleRun
from service import scheduling
from service.auth import project
from service.bodies import json_body
from service.errors import validated
from service.idempotency import Attempt, json_fingerprint
from service.jobs import EXAMPLE as JOB
from service.openapi import IDEMPOTENCY_KEY, Body, Empty, Parameter, Shape, operation, paging
from service.rendering import json_answer, page, query_number
from service.services import services
from tasks.schedules.agenda import upcoming
from tasks.schedules.records import ScheduleRecord

__all__ = ["bp"]

bp = Blueprint("schedules", __name__, url_prefix="/v1/schedules")

_MOST_PREVIEWED = 100

EXAMPLE = {
    "name": "nightly",
    "trigger": {"type": "cron", "expression": "30 2 * * MON-FRI", "timezone": "Europe/Berlin"},
    "job": JOB,
    "catch_up": "last",
    "overlap": "skip",
    "regression": {"accuracy_drop": 1.0, "size_growth": 5.0},
}

_BODY_PROBLEMS = (
    "bad_json",
    "bad_request",
    "payload_too_large",
    "unsupported_media_type",
    "invalid_request",
    "unsupported_technique",
    "unsupported_output",
    "dataset_required",
    "storage_unavailable",
)
_ETAG = {"ETag": "Changes with every change of the schedule."}


@bp.post("")
@operation(
    summary="Make a schedule",
    body=Body(ScheduleRequest, EXAMPLE),
    answers={201: Shape(Schedule, "The schedule.", {"Location": "The schedule.", **_ETAG})},
    parameters=[IDEMPOTENCY_KEY],
    problems=[*_BODY_PROBLEMS, "too_many_schedules", "idempotency_key_reused", "idempotency_key_in_flight"],
)
def create() -> Response:
    """The job is checked as a request for it would be, except for what is in files of the inbox."""
    body = json_body(services().settings.max_json_bytes)
    wanted = validated(ScheduleRequest, body)

    def make(attempt: Attempt) -> Response:
        record = scheduling.create(services(), project(), wanted, schedule_id=attempt.resource_id)
        return _answer(record, 201, Location=f"/v1/schedules/{record.id}")

    return services().ledger.once(project(), "schedule", json_fingerprint(body), make)


@bp.get("")
@operation(
    summary="The schedules, newest first",
    answers={200: Shape(Page[Schedule], "A page.")},
    parameters=paging(),
    problems=["bad_cursor", "invalid_request"],
)
def index() -> Response:
    store = services().schedules.store
    return page(lambda window: store.list(project(), limit=window.limit, cursor=window.cursor))


@bp.get("/<schedule_id>")
@operation(
    summary="A schedule",
    answers={
        200: Shape(Schedule, "The schedule.", _ETAG),
        304: Empty("It is still as the ETag in If-None-Match says."),
    },
    parameters=[
        Parameter(
            "preview",
            "Tell so many of the next fire times, in next_fires.",
            {"type": "integer", "minimum": 1, "maximum": _MOST_PREVIEWED},
        ),
        Parameter("If-None-Match", "The ETag of what is known already.", place="header"),
    ],
    problems=["not_found", "invalid_request"],
)
def show(schedule_id: str) -> Response:
    count = int(query_number("preview", 1, _MOST_PREVIEWED, 0, whole=True))
    response = _answer(services().schedules.store.get(project(), schedule_id), 200, preview=count)
    response.make_conditional(request)
    return response


@bp.patch("/<schedule_id>")
@operation(
    summary="Change a schedule",
    body=Body(ScheduleChange, {"trigger": {"type": "interval", "seconds": 3600}}),
    answers={200: Shape(Schedule, "The schedule.", _ETAG)},
    problems=[*_BODY_PROBLEMS, "not_found", "overloaded"],
)
def change(schedule_id: str) -> Response:
    """What is given replaces what was. With a new trigger it counts from now; runs that were made stay. One
    that has ended goes on when ends_at or max_runs let it."""
    services().schedules.store.get(project(), schedule_id)
    wanted = validated(ScheduleChange, json_body(services().settings.max_json_bytes))
    return _answer(scheduling.change(services(), project(), schedule_id, wanted), 200)


@bp.post("/<schedule_id>/pause")
@operation(
    summary="Have a schedule make no more runs",
    answers={200: Shape(Schedule, "It is paused.", _ETAG)},
    problems=["not_found", "schedule_ended", "storage_unavailable", "overloaded"],
)
def pause(schedule_id: str) -> Response:
    """Its jobs go on. One that is paused stays paused."""
    return _answer(scheduling.pause(services(), project(), schedule_id), 200)


@bp.post("/<schedule_id>/resume")
@operation(
    summary="Have a paused schedule go on",
    answers={200: Shape(Schedule, "It is active.", _ETAG)},
    problems=["not_found", "schedule_ended", "storage_unavailable", "overloaded"],
)
def resume(schedule_id: str) -> Response:
    """What was due while it was paused is not made up for, whatever catch_up says; changes of objects are,
    unless it says skip. One that is active stays active."""
    return _answer(scheduling.resume(services(), project(), schedule_id), 200)


@bp.post("/<schedule_id>/run")
@operation(
    summary="Run a schedule's job now",
    answers={202: Shape(ScheduleRun, "The run.", {"Location": "Its job."})},
    parameters=[IDEMPOTENCY_KEY],
    problems=[
        "not_found",
        "invalid_request",
        "unsupported_technique",
        "unsupported_output",
        "dataset_required",
        "storage_quota_exceeded",
        "too_many_queued_jobs",
        "cpu_quota_exceeded",
        "idempotency_key_reused",
        "idempotency_key_in_flight",
        "overloaded",
    ],
)
def run(schedule_id: str) -> Response:
    """Also of one that is paused or has ended. The rule for overlaps holds: with skip, while a job of the
    schedule has not ended, the run is skipped and says so. It does not count for max_runs."""

    def make(attempt: Attempt) -> Response:
        made = scheduling.run_now(services(), project(), schedule_id, job_id=attempt.resource_id)
        location = {"Location": f"/v1/jobs/{made.job_id}"} if made.job_id else {}
        return json_answer(made.public(), 202, **location)

    return services().ledger.once(project(), "job", json_fingerprint(schedule_id), make)


@bp.get("/<schedule_id>/runs")
@operation(
    summary="The runs of a schedule, newest first",
    answers={200: Shape(Page[ScheduleRun], "A page.")},
    parameters=paging(),
    problems=["not_found", "bad_cursor", "invalid_request"],
)
def runs(schedule_id: str) -> Response:
    """The newest 1000 are kept."""
    store = services().schedules.store
    record = store.get(project(), schedule_id)
    return page(lambda window: store.runs(record, limit=window.limit, cursor=window.cursor))


@bp.delete("/<schedule_id>")
@operation(
    summary="Remove a schedule",
    answers={204: Empty("It is gone.")},
    problems=["not_found", "storage_unavailable"],
)
def delete(schedule_id: str) -> Response:
    """With the list of its runs. Jobs it has made stay, those that have not ended go on."""
    scheduling.delete(services(), project(), schedule_id)
    return Response(status=204)


def _answer(record: ScheduleRecord, status: int, *, preview: int = 0, **headers: str) -> Response:
    shown = record.public()
    if preview:
        times = upcoming(record.wanted, record.anchor, record.cursor) if record.state == "active" else ()
        shown = shown.model_copy(update={"next_fires": list(islice(times, preview))})
    response = json_answer(shown, status, **headers)
    response.add_etag()
    return response
