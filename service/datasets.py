"""``/v1/datasets``: the data sets a project keeps."""

from __future__ import annotations

from flask import Blueprint, Response

from featherweight.resources import Dataset, Page
from service.auth import project
from service.expiry import all_dated, dated
from service.openapi import Empty, Shape, Stream, operation, paging
from service.receiving import PARAMETERS, PROBLEMS, receive
from service.rendering import json_answer, page
from service.services import services
from tasks.filekinds import DATASET

__all__ = ["bp"]

bp = Blueprint("datasets", __name__, url_prefix="/v1/datasets")


@bp.post("")
@operation(
    summary="Store a data set in one request",
    body=Stream("The file itself, of any format that data sets have: curl -X POST -T FILE."),
    answers={201: Shape(Dataset, "The data set.", {"Location": "The data set."})},
    parameters=PARAMETERS,
    problems=PROBLEMS,
)
def create() -> Response:
    """The body is streamed to storage. Of a body that is cut off or refused nothing is kept."""
    return receive(DATASET)


@bp.get("")
@operation(
    summary="The data sets, newest first",
    answers={200: Shape(Page[Dataset], "A page.")},
    parameters=paging(),
    problems=["bad_cursor", "invalid_request"],
)
def index() -> Response:
    return page(
        lambda window: all_dated(
            services().datasets.list(project(), limit=window.limit, cursor=window.cursor)
        )
    )


@bp.get("/<dataset_id>")
@operation(
    summary="A data set",
    answers={200: Shape(Dataset, "The data set.")},
    problems=["not_found"],
)
def show(dataset_id: str) -> Response:
    return json_answer(dated(services().datasets.get(project(), dataset_id)).public())


@bp.delete("/<dataset_id>")
@operation(
    summary="Remove a data set",
    answers={
        204: Empty("It is gone, and so are its bytes."),
        202: Empty("It is gone; its bytes go as soon as the storage can be reached."),
    },
    problems=["not_found", "resource_in_use"],
)
def delete(dataset_id: str) -> Response:
    """Refused while something needs it: a job that has not ended, a batch, a schedule. From then on nobody is
    shown it, and its bytes do not count any more once they are gone."""
    gone = services().removal.remove_file("dataset", project(), dataset_id)
    return Response(status=204 if gone else 202)
