"""``/v1/techniques`` and ``/v1/spec/schema``: what can be asked for, so that nobody hard-codes it."""

from __future__ import annotations

from flask import Blueprint, Response, json

from featherweight.resources import Page, Technique
from featherweight.spec import CompressionSpec
from service.openapi import Shape, Text, operation
from service.rendering import json_answer
from tasks.compression import abilities

__all__ = ["bp"]

bp = Blueprint("techniques", __name__, url_prefix="/v1")


@bp.get("/techniques")
@operation(
    summary="The techniques, with the JSON Schema of each",
    answers={200: Shape(Page[Technique], "All of them.")},
)
def index() -> Response:
    return json_answer(Page[Technique](data=abilities.techniques(), has_more=False))


@bp.get("/spec/schema")
@operation(
    summary="The JSON Schema of a compression spec",
    answers={200: Text("application/schema+json", "JSON Schema 2020-12.")},
)
def spec_schema() -> Response:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **CompressionSpec.model_json_schema(),
    }
    return Response(json.dumps(schema), content_type="application/schema+json")
