"""``/v1/usage``: what the project uses, and what it may use."""

from __future__ import annotations

from flask import Blueprint, Response

from featherweight.resources import Usage
from service.auth import project
from service.openapi import Shape, operation
from service.rendering import json_answer
from service.services import services

__all__ = ["bp"]

bp = Blueprint("usage", __name__, url_prefix="/v1/usage")


@bp.get("")
@operation(
    summary="What the project uses, and what it may use",
    answers={200: Shape(Usage, "Bytes, jobs and CPU seconds, with their limits.")},
)
def show() -> Response:
    """Limits are set by whoever runs the service."""
    return json_answer(services().accounts.usage(project()))
