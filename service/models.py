"""``/v1/models``: the models a project keeps."""

from __future__ import annotations

from flask import Blueprint, Response

from featherweight.resources import Model, Page
from service.auth import project
from service.filekinds import MODEL
from service.openapi import Empty, Shape, Stream, operation, paging
from service.receiving import PARAMETERS, PROBLEMS, receive
from service.rendering import json_answer, page
from service.services import services

__all__ = ["bp"]

bp = Blueprint("models", __name__, url_prefix="/v1/models")


@bp.post("")
@operation(
    summary="Store a model in one request",
    body=Stream(
        "The file itself: .keras, .h5, .tflite, or a SavedModel in a zip or tar. curl -X POST -T FILE."
    ),
    answers={201: Shape(Model, "The model.", {"Location": "The model."})},
    parameters=PARAMETERS,
    problems=PROBLEMS,
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
