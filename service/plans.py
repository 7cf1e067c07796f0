"""``/v1/plans``: what a job would do, told without queueing it."""

from __future__ import annotations

from flask import Blueprint, Response

from featherweight.job import JobRequest
from featherweight.plan import Plan
from service.auth import project
from service.bodies import json_body
from service.errors import validated
from service.jobs import EXAMPLE
from service.openapi import Body, Shape, operation
from service.planning import planning
from service.rendering import json_answer
from service.services import services

__all__ = ["bp"]

bp = Blueprint("plans", __name__, url_prefix="/v1/plans")


@bp.post("")
@operation(
    summary="What a job would do to each layer, cost and save",
    body=Body(JobRequest, EXAMPLE),
    answers={200: Shape(Plan, "The plan, of a job that would fail as well: `feasible` says it.")},
    problems=[
        "bad_json",
        "bad_request",
        "payload_too_large",
        "unsupported_media_type",
        "invalid_request",
        "artifact_gone",
        "not_plannable",
        "overloaded",
        "storage_unavailable",
    ],
)
def create() -> Response:
    """The same body as for a job; nothing is kept and nothing queued. What would make the job fail and can be
    told from the model and the spec stands in `problems`, with the place in the body that is to blame.
    Estimates are named as such."""
    wanted = validated(JobRequest, json_body(services().settings.max_json_bytes))
    app = services()
    model, dataset = app.submitter.find_inputs(project(), wanted)
    with planning():
        plan = app.planner.plan(model, dataset, wanted.spec)
    ids = {"model_id": wanted.model_id, "dataset_id": wanted.dataset_id}
    return json_answer(plan.model_copy(update=ids))
