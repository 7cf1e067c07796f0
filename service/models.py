"""``/v1/models``: the models a project keeps."""

from __future__ import annotations

from flask import Blueprint, Response

from featherweight.inspection import Inspection
from featherweight.resources import Model, Page
from service.auth import project
from service.expiry import all_dated, dated
from service.openapi import Empty, Shape, Stream, operation, paging
from service.planning import planning
from service.receiving import PARAMETERS, PROBLEMS, receive
from service.rendering import json_answer, page
from service.services import services
from tasks.filekinds import MODEL

__all__ = ["bp"]

bp = Blueprint("models", __name__, url_prefix="/v1/models")


@bp.post("")
@operation(
    summary="Store a model in one request",
    body=Stream(
        "The file itself: .keras, .h5, .tflite, .pt2, .onnx, or a SavedModel in a zip or tar. "
        "curl -X POST -T FILE."
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
    return page(
        lambda window: all_dated(services().models.list(project(), limit=window.limit, cursor=window.cursor))
    )


@bp.get("/<model_id>")
@operation(
    summary="A model",
    answers={200: Shape(Model, "The model.")},
    problems=["not_found"],
)
def show(model_id: str) -> Response:
    return json_answer(dated(services().models.get(project(), model_id)).public())


@bp.post("/<model_id>/inspection")
@operation(
    summary="What is in a model, and what can be done to it",
    answers={200: Shape(Inspection, "The inspection, of a file that no job would take as well.")},
    problems=["not_found", "artifact_gone", "not_plannable", "overloaded", "storage_unavailable"],
)
def inspect(model_id: str) -> Response:
    """Format and writer, layers with shapes, parameters and MACs, and each technique and output format:
    possible or not, for which layers, and why not. Nothing of the model is run, nothing is queued; the answer
    is the same each time, and kept by the file's sha256."""
    model = services().models.get(project(), model_id)
    with planning():
        found = services().planner.inspect(model)
    told = {"model_id": model.id, "filename": model.filename, "sha256": model.sha256}
    return json_answer(found.model_copy(update=told))


@bp.delete("/<model_id>")
@operation(
    summary="Remove a model",
    answers={
        204: Empty("It is gone, and so are its bytes."),
        202: Empty("It is gone; its bytes go as soon as the storage can be reached."),
    },
    problems=["not_found", "resource_in_use"],
)
def delete(model_id: str) -> Response:
    """Refused while something needs it: a job that has not ended, a batch, a schedule. From then on nobody is
    shown it, and its bytes do not count any more once they are gone."""
    gone = services().removal.remove_file("model", project(), model_id)
    return Response(status=204 if gone else 202)
