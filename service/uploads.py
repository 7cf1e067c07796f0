"""``/v1/uploads``: files in parts, sent straight to the object storage and picked up where they broke off."""

from __future__ import annotations

from flask import Blueprint, Response

from featherweight.resources import Upload, UploadRequest
from service import multipart
from service.auth import project
from service.bodies import json_body
from service.errors import validated
from service.filekinds import GATE_PROBLEMS
from service.idempotency import Attempt, json_fingerprint
from service.openapi import IDEMPOTENCY_KEY, Body, Empty, Shape, operation
from service.rendering import json_answer
from service.services import services

__all__ = ["bp"]

bp = Blueprint("uploads", __name__, url_prefix="/v1/uploads")

_EXAMPLE = {"kind": "model", "filename": "model.keras", "size": 1_048_576, "sha256": "0" * 64}


@bp.post("")
@operation(
    summary="Begin an upload in parts",
    body=Body(UploadRequest, _EXAMPLE),
    answers={201: Shape(Upload, "PUT each part to its URL.", {"Location": "The upload."})},
    parameters=[IDEMPOTENCY_KEY],
    problems=[
        "bad_json",
        "bad_request",
        "payload_too_large",
        "unsupported_media_type",
        "invalid_request",
        "storage_quota_exceeded",
        "idempotency_key_reused",
        "idempotency_key_in_flight",
        "storage_unavailable",
    ],
)
def create() -> Response:
    body = json_body(services().settings.max_json_bytes)
    wanted = validated(UploadRequest, body)
    return services().ledger.once(
        project(), "upload", json_fingerprint(body), lambda attempt: _begun(attempt, wanted)
    )


def _begun(attempt: Attempt, wanted: UploadRequest) -> Response:
    upload = multipart.begin(services(), project(), attempt.resource_id, wanted)
    return json_answer(upload, 201, Location=f"/v1/uploads/{upload.id}")


@bp.get("/<upload_id>")
@operation(
    summary="An upload: what arrived, and fresh URLs for what did not",
    answers={200: Shape(Upload, "The upload.")},
    problems=["not_found", "upload_expired", "storage_unavailable"],
)
def show(upload_id: str) -> Response:
    record = multipart.load(services(), project(), upload_id)
    return json_answer(multipart.shown(services(), record))


@bp.post("/<upload_id>/complete")
@operation(
    summary="Make the model or data set of the parts",
    answers={200: Shape(Upload, "Its resource_id is the model or data set.")},
    problems=[
        "not_found",
        "upload_incomplete",
        "upload_expired",
        "size_mismatch",
        "sha256_mismatch",
        "unknown_file_type",
        *GATE_PROBLEMS,
        "storage_unavailable",
        "overloaded",
    ],
)
def complete(upload_id: str) -> Response:
    """The whole file is read once and compared with the size and sha256 announced. Done twice, it is
    done once: the second answer is the first."""
    return json_answer(multipart.complete(services(), project(), upload_id).public())


@bp.post("/<upload_id>/abort")
@operation(
    summary="Give an upload up",
    answers={200: Shape(Upload, "The upload, aborted.")},
    problems=["not_found", "upload_completed", "storage_unavailable"],
)
def abort(upload_id: str) -> Response:
    """Its parts are removed. Done twice, it is done once."""
    return json_answer(multipart.abort(services(), project(), upload_id).public())


@bp.delete("/<upload_id>")
@operation(
    summary="Give an upload up",
    answers={204: Empty("It is aborted.")},
    problems=["not_found", "upload_completed", "storage_unavailable"],
)
def delete(upload_id: str) -> Response:
    """The same as abort."""
    multipart.abort(services(), project(), upload_id)
    return Response(status=204)
