"""``/v1/models``: the models a project keeps."""

from __future__ import annotations

from flask import Blueprint, Response

from featherweight.resources import Model, Page
from service.auth import project
from service.filekinds import MODEL
from service.openapi import IDEMPOTENCY_KEY, Empty, Parameter, Shape, Stream, operation, paging
from service.receiving import receive
from service.rendering import json_answer, page
from service.services import services

__all__ = ["bp"]

bp = Blueprint("models", __name__, url_prefix="/v1/models")


@bp.post("")
@operation(
    summary="Store a model in one request",
    body=Stream("The file itself, a .keras, .h5 or .tflite file: curl -X POST -T FILE."),
    answers={201: Shape(Model, "The model.", {"Location": "The model."})},
    parameters=[
        Parameter("filename", "What to call it."),
        Parameter(
            "sha256", "In hex; another digest is refused.", {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"}
        ),
        Parameter("Content-Digest", "RFC 9530: the sha-256 in base64, instead of sha256.", place="header"),
        IDEMPOTENCY_KEY,
    ],
    problems=[
        "bad_request",
        "payload_too_large",
        "unsupported_media_type",
        "unknown_file_type",
        "invalid_request",
        "size_mismatch",
        "sha256_mismatch",
        "idempotency_key_reused",
        "idempotency_key_in_flight",
        "storage_unavailable",
    ],
)
def create() -> Response:
    """The body is streamed to storage. Of a body that is cut off or refused nothing is kept."""
    return receive(MODEL)


@bp.get("")
@operation(
    summary="The models, newest first",
    answers={200: Shape(Page[Model], "A page.")},
    parameters=paging(),
    problems=["bad_cursor", "invalid_request"],
)
def index() -> Response:
    return page(lambda window: services().models.list(project(), limit=window.limit, cursor=window.cursor))


@bp.get("/<model_id>")
@operation(
    summary="A model",
    answers={200: Shape(Model, "The model.")},
    problems=["not_found"],
)
def show(model_id: str) -> Response:
    return json_answer(services().models.get(project(), model_id).public())


@bp.delete("/<model_id>")
@operation(
    summary="Remove a model",
    answers={204: Empty("It is gone.")},
    problems=["not_found", "storage_unavailable"],
)
def delete(model_id: str) -> Response:
    """A job that has not loaded it yet will fail; one that has goes on."""
    MODEL.remove(services(), project(), model_id)
    return Response(status=204)
