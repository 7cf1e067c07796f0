"""``/v1/batches``: many jobs asked for at once, and what came of them."""

from __future__ import annotations

import base64
import binascii
import re

from flask import Blueprint, Response, g, request

from featherweight.batch import Batch, BatchItem, BatchRequest
from featherweight.problem import FieldError
from featherweight.resources import Page
from service.auth import project
from service.bodies import json_body
from service.errors import ProblemError, invalid, validated
from service.idempotency import Attempt, json_fingerprint
from service.openapi import IDEMPOTENCY_KEY, Body, Empty, Parameter, Shape, Text, operation, paging
from service.rendering import Window, bad_cursor, json_answer, page, query_number, streamed, window
from service.services import services
from service.waiting import preferred_wait, until_done, until_known
from tasks.batches.files import read_range
from tasks.batches.records import BatchRecord
from tasks.batches.store import TooManyOpen
from tasks.filekinds import BATCH_FILE
from tasks.recordstore import NotFound

__all__ = ["bp"]

bp = Blueprint("batches", __name__, url_prefix="/v1/batches")

_JSONL = "application/x-ndjson"
_CURSOR = re.compile(r"1\.(\d{1,9})")
# What the first items cost is done before the answer, so that a small batch begins at once.
_HASTE_S = 0.5
_BATCHES_END_S = 60

_ETAG = {"ETag": "Changes with every change of the batch."}
_WAIT_SCHEMA = {"type": "number", "minimum": 0}

EXAMPLE = {
    "name": "nightly",
    "models": ["mdl_abcdefghijklmnopqrstuvwxyz", "mdl_zyxwvutsrqponmlkjihgfedcba"],
    "specs": [
        {"name": "int8", "spec": {"steps": [{"technique": "quantize", "scheme": "full_int8"}]}},
        {"name": "half", "spec": {"steps": [{"technique": "prune"}, {"technique": "finetune"}]}},
    ],
    "defaults": {"dataset_id": "ds_abcdefghijklmnopqrstuvwxyz"},
    "max_concurrent": 4,
}


@bp.post("")
@operation(
    summary="Ask for many models to be compressed",
    body=Body(BatchRequest, EXAMPLE),
    answers={
        200: Shape(Batch, "The batch ended while Prefer: wait was waited for."),
        202: Shape(
            Batch, "The batch is made.", {"Location": "The batch.", "Retry-After": "Seconds.", **_ETAG}
        ),
    },
    parameters=[
        IDEMPOTENCY_KEY,
        Parameter("Prefer", "wait=30: answer when the batch ends, at the latest after 30 s.", place="header"),
    ],
    problems=[
        "bad_json",
        "bad_request",
        "payload_too_large",
        "unsupported_media_type",
        "invalid_request",
        "too_many_open_batches",
        "idempotency_key_reused",
        "idempotency_key_in_flight",
        "storage_unavailable",
    ],
)
def create() -> Response:
    """A body that is not valid is refused as a whole. What is wrong with single items beyond that, lines of
    an input file above all, ends these items as invalid, and the others go on: the errors file has them."""
    body = json_body(services().settings.max_json_bytes)
    wanted = validated(BatchRequest, body)
    response = services().ledger.once(
        project(), "batch", json_fingerprint(body), lambda attempt: _created(attempt, wanted)
    )
    # Outside the ledger: who sends the request again shall not have to wait for this one's wait.
    return _after_waiting(response, g.pop("created", None))


def _created(attempt: Attempt, wanted: BatchRequest) -> Response:
    _check_input(wanted)
    batches = services().batches
    try:
        record = batches.create(project(), attempt.resource_id, wanted, request_id=g.request_id)
    except TooManyOpen:
        raise ProblemError(
            "too_many_open_batches",
            "the project has as many batches that have not ended as it may have",
            headers={"Retry-After": str(_BATCHES_END_S)},
        ) from None
    if wanted.prefix is None and wanted.input_file_id is None:
        batches.hasten(record.id, _HASTE_S)
        record = batches.store.get(project(), record.id)
    g.created = record
    return _batch_answer(record, 202, Location=f"/v1/batches/{record.id}", Retry_After="1")


def _check_input(wanted: BatchRequest) -> None:
    if wanted.input_file_id is None:
        return
    try:
        services().intake.records(BATCH_FILE).get(project(), wanted.input_file_id)
    except NotFound:
        detail = f"there is no batch file {wanted.input_file_id!r} in this project"
        raise invalid([FieldError(pointer="/input_file_id", code="not_found", detail=detail)]) from None


def _after_waiting(response: Response, record: BatchRecord | None) -> Response:
    """The answer that `Prefer: wait` asks for."""
    seconds = preferred_wait()
    if record is None or not seconds:
        return response
    record = until_done(record, seconds, services().batches.store.wait_change)
    headers = {} if record.done else {"Retry_After": "1"}
    response = _batch_answer(
        record, 200 if record.done else 202, Location=f"/v1/batches/{record.id}", **headers
    )
    response.headers["Preference-Applied"] = f"wait={seconds:g}"
    return response


@bp.get("")
@operation(
    summary="The batches, newest first",
    answers={200: Shape(Page[Batch], "A page.")},
    parameters=paging(),
    problems=["bad_cursor", "invalid_request"],
)
def index() -> Response:
    """Of these, what runs is counted as queued: GET of a single one tells them apart."""
    store = services().batches.store
    return page(lambda window: store.list(project(), limit=window.limit, cursor=window.cursor))


@bp.get("/<batch_id>")
@operation(
    summary="A batch",
    answers={
        200: Shape(Batch, "The batch.", _ETAG),
        304: Empty("It is still as the ETag in If-None-Match says."),
    },
    parameters=[
        Parameter("wait", "Hold the answer for up to so many seconds.", _WAIT_SCHEMA),
        Parameter("If-None-Match", "The ETag of what is known already.", place="header"),
    ],
    problems=["not_found", "invalid_request"],
)
def show(batch_id: str) -> Response:
    """With `wait` the answer is held until the batch is no longer as If-None-Match says, or, without that
    header, until it has ended."""
    seconds = min(query_number("wait", 0, 86_400, 0), services().settings.long_poll_max_s)
    record = services().batches.store.get(project(), batch_id)
    if seconds and not record.done:
        record = until_known(record, seconds, _etag(record), services().batches.store.wait_change)
    response = _batch_answer(record, 200)
    response.make_conditional(request)
    return response


@bp.post("/<batch_id>/cancel")
@operation(
    summary="Ask for a batch to be stopped",
    answers={200: Shape(Batch, "The batch has ended."), 202: Shape(Batch, "It is being stopped.")},
    problems=["not_found"],
)
def cancel(batch_id: str) -> Response:
    """What waits is cancelled at once, what runs within seconds; what has ended keeps its result. A batch
    that has ended stays as it is, so asking twice does no harm."""
    batches = services().batches
    record = batches.store.stop(batch_id, project(), "cancelled")
    if not record.done:
        batches.hasten(record.id, _HASTE_S)
        record = batches.store.get(project(), record.id)
    return _batch_answer(record, 200 if record.done else 202)


@bp.delete("/<batch_id>")
@operation(
    summary="Remove a batch that has ended",
    answers={204: Empty("It is gone.")},
    problems=["not_found", "batch_not_done", "storage_unavailable"],
)
def delete(batch_id: str) -> Response:
    """Its result files go with it; its jobs, with their reports and artifacts, stay."""
    if not services().batches.remove(project(), batch_id):
        raise _not_done(batch_id, "POST /v1/batches/{id}/cancel stops it")
    return Response(status=204)


@bp.get("/<batch_id>/items")
@operation(
    summary="The items of a batch, in the order of its input",
    answers={200: Shape(Page[BatchItem], "A page.")},
    parameters=paging(),
    problems=["not_found", "bad_cursor", "invalid_request", "storage_unavailable"],
)
def items(batch_id: str) -> Response:
    """While the batch is validated, those that have been read so far."""
    wanted = window()
    first = _first(wanted)
    batches = services().batches
    record = batches.store.get(project(), batch_id)
    try:
        found = read_range(
            record, first, wanted.limit, lambda part: batches.live(record, part), batches.files(record)
        )
    except FileNotFoundError:
        raise _gone("the items") from None
    following = first + wanted.limit if first + wanted.limit < record.counts.total else None
    next_cursor = None if following is None else _cursor(following)
    return json_answer(Page[BatchItem](data=found, has_more=following is not None, next_cursor=next_cursor))


@bp.get("/<batch_id>/results")
@operation(
    summary="The items of a batch that succeeded, as JSONL",
    answers={200: Text(_JSONL, "A BatchItem on each line, in the order of the input.")},
    problems=["not_found", "batch_not_done", "artifact_gone", "storage_unavailable"],
)
def results(batch_id: str) -> Response:
    return _file(batch_id, "results")


@bp.get("/<batch_id>/errors")
@operation(
    summary="The items of a batch that did not succeed, as JSONL",
    answers={200: Text(_JSONL, "A BatchItem on each line, in the order of the input; error says why.")},
    problems=["not_found", "batch_not_done", "artifact_gone", "storage_unavailable"],
)
def errors(batch_id: str) -> Response:
    """Every item is in this file or in results."""
    return _file(batch_id, "errors")


def _file(batch_id: str, name: str) -> Response:
    batches = services().batches
    record = batches.store.get(project(), batch_id)
    if not record.done:
        raise _not_done(
            batch_id, "GET /v1/batches/{id}?wait=60 answers when it has ended; /items has what there is"
        )
    described = record.results if name == "results" else record.errors
    if described is None:
        # Its input could not be read: there are no items.
        return Response(b"", content_type=_JSONL)
    chunks = batches.files(record).stream(name)
    try:
        response = streamed(
            chunks, media_type=_JSONL, size=described.bytes, filename=f"{record.id}-{name}.jsonl"
        )
    except FileNotFoundError:
        raise _gone(f"the file of {name}") from None
    response.set_etag(described.sha256)
    return response


def _batch_answer(record: BatchRecord, status: int, **headers: str) -> Response:
    running = services().batches.running(record)
    counts = record.counts.model_copy(
        update={"running": running, "queued": max(0, record.counts.queued - running)}
    )
    response = json_answer(record.public().model_copy(update={"counts": counts}), status, **headers)
    response.set_etag(_etag(record, running))
    return response


def _etag(record: BatchRecord, running: int | None = None) -> str:
    """How many run changes without the record."""
    count = services().batches.running(record) if running is None else running
    return f"{record.version}-{count}"


def _not_done(batch_id: str, hint: str) -> ProblemError:
    record = services().batches.store.get(project(), batch_id)
    return ProblemError(
        "batch_not_done", f"the batch is {record.state}", hint=hint.replace("{id}", record.id)
    )


def _gone(what: str) -> ProblemError:
    return ProblemError("artifact_gone", f"{what} of the batch are no longer stored")


def _cursor(first: int) -> str:
    return base64.urlsafe_b64encode(f"1.{first}".encode()).decode().rstrip("=")


def _first(wanted: Window) -> int:
    """The index that the cursor stands for; bad_cursor."""
    if wanted.cursor is None:
        return 0
    padded = wanted.cursor + "=" * (-len(wanted.cursor) % 4)
    try:
        match = _CURSOR.fullmatch(base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii"))
    except (binascii.Error, ValueError):
        match = None
    if match is None:
        raise bad_cursor()
    return int(match[1])
