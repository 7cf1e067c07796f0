"""``/v1/batch_files``: input files of batches, one item on each line."""

from __future__ import annotations

from flask import Blueprint, Response

from featherweight.batch import BatchFile
from featherweight.resources import Page
from service.auth import project
from service.openapi import Empty, Shape, Stream, operation, paging
from service.receiving import PARAMETERS, PROBLEMS, receive
from service.rendering import json_answer, page
from service.services import services
from tasks.filekinds import BATCH_FILE

__all__ = ["bp"]

bp = Blueprint("batch_files", __name__, url_prefix="/v1/batch_files")


@bp.post("")
@operation(
    summary="Store an input file of batches in one request",
    body=Stream("The file itself: JSONL, a BatchItemRequest on each line. curl -X POST -T FILE."),
    answers={201: Shape(BatchFile, "The file.", {"Location": "The file."})},
    parameters=PARAMETERS,
    problems=PROBLEMS,
)
def create() -> Response:
    """The lines are looked at when a batch is made of them. Large files go through /v1/uploads, with the kind
    batch."""
    return receive(BATCH_FILE)


@bp.get("")
@operation(
    summary="The input files of batches, newest first",
    answers={200: Shape(Page[BatchFile], "A page.")},
    parameters=paging(),
    problems=["bad_cursor", "invalid_request"],
)
def index() -> Response:
    records = services().intake.records(BATCH_FILE)
    return page(lambda window: records.list(project(), limit=window.limit, cursor=window.cursor))


@bp.get("/<batch_file_id>")
@operation(
    summary="An input file of batches",
    answers={200: Shape(BatchFile, "The file.")},
    problems=["not_found"],
)
def show(batch_file_id: str) -> Response:
    return json_answer(services().intake.records(BATCH_FILE).get(project(), batch_file_id).public())


@bp.delete("/<batch_file_id>")
@operation(
    summary="Remove an input file of batches",
    answers={
        204: Empty("It is gone, and so are its bytes."),
        202: Empty("It is gone; its bytes go as soon as the storage can be reached."),
    },
    problems=["not_found", "resource_in_use"],
)
def delete(batch_file_id: str) -> Response:
    """A batch that has read it goes on; one that is still reading it fails."""
    gone = services().removal.remove_file("batch_file", project(), batch_file_id)
    return Response(status=204 if gone else 202)
