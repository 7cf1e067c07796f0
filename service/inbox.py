"""``/v1/inbox``: objects that other systems put into the project's part of the bucket."""

from __future__ import annotations

import base64
import binascii

from flask import Blueprint, Response, request

from featherweight.resources import AdoptRequest, Import, InboxObject, Kind, Page
from service.auth import project
from service.bodies import json_body
from service.errors import ProblemError, validated
from service.filekinds import GATE_PROBLEMS, refused
from service.idempotency import json_fingerprint
from service.importslots import NoSlot
from service.openapi import IDEMPOTENCY_KEY, Body, Parameter, Shape, operation, paging
from service.rendering import bad_cursor, json_answer, query_number
from service.services import services
from tasks.intake import FileRefused
from tasks.records import DatasetRecord, ModelRecord

__all__ = ["bp"]

bp = Blueprint("inbox", __name__, url_prefix="/v1/inbox")

# A cursor is the name of an object, which may be longer than the cursors of other lists.
_MAX_CURSOR = 1200
_VERSION = "1."

_EXAMPLE = {"name": "models/2026-11-21/net.keras", "kind": "model"}


@bp.get("")
@operation(
    summary="What lies in the project's inbox",
    answers={200: Shape(Page[InboxObject], "A page, by name as the storage orders them.")},
    parameters=[Parameter("prefix", "Only objects whose name begins with it."), *paging()],
    problems=["bad_cursor", "invalid_request", "storage_unavailable"],
)
def index() -> Response:
    """Objects that other systems put into the service's bucket under inbox/PROJECT/. `name` is what
    comes after that."""
    limit = int(query_number("limit", 1, 100, 20, whole=True))
    try:
        # One more than is shown tells whether there are more.
        found = services().inbox.list(project(), request.args.get("prefix", ""), _after(), limit + 1)
    except FileRefused as error:
        raise refused(error) from None
    more = len(found) > limit
    following = _cursor(found[limit - 1].name) if more else None
    return json_answer(Page[InboxObject](data=found[:limit], has_more=more, next_cursor=following))


@bp.post("/adopt")
@operation(
    summary="Make a model or data set of an object in the inbox",
    body=Body(AdoptRequest, _EXAMPLE),
    answers={201: Shape(Import, "It is stored.", {"Location": "The model or data set."})},
    parameters=[IDEMPOTENCY_KEY],
    problems=[
        "bad_json",
        "bad_request",
        "payload_too_large",
        "unsupported_media_type",
        "unknown_file_type",
        "invalid_request",
        "object_not_found",
        "object_changed",
        "object_too_large",
        *GATE_PROBLEMS,
        "storage_quota_exceeded",
        "idempotency_key_reused",
        "idempotency_key_in_flight",
        "storage_unavailable",
        "overloaded",
    ],
)
def adopt() -> Response:
    """Its bytes are copied and judged as those of an upload are; the object stays where it is. Adopted again
    while neither the object nor what became of it has changed, the answer is the same model or data set."""
    body = json_body(services().settings.max_json_bytes)
    wanted = validated(AdoptRequest, body)
    return services().ledger.once(
        project(), wanted.kind, json_fingerprint(body), lambda attempt: _adopted(wanted.name, wanted.kind)
    )


def _adopted(name: str, kind: Kind) -> Response:
    try:
        with services().imports.taken(project()):
            record: ModelRecord | DatasetRecord = services().inbox.adopt(project(), name, kind)
    except NoSlot:
        raise ProblemError("overloaded", "as many files as may be are being fetched; try again") from None
    except FileRefused as error:
        raise refused(error) from None
    made = {**record.public().model_dump(), "object": "import"}
    answer = Import.model_validate({**made, "kind": kind, "resource_id": record.id})
    return json_answer(answer, 201, Location=f"/v1/{kind}s/{record.id}")


def _cursor(name: str) -> str:
    return base64.urlsafe_b64encode(f"{_VERSION}{name}".encode()).decode().rstrip("=")


def _after() -> str | None:
    """The name that the cursor stands for; bad_cursor."""
    cursor = request.args.get("cursor")
    if not cursor:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise bad_cursor() from None
    if len(cursor) > _MAX_CURSOR or not text.startswith(_VERSION) or text == _VERSION:
        raise bad_cursor()
    return text.removeprefix(_VERSION)
