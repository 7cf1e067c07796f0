"""``/problems/<code>``: what a problem's `type` points to."""

from __future__ import annotations

from html import escape

from flask import Blueprint, Response, request
from pydantic import BaseModel

from featherweight.problem import CODES
from service.auth import public
from service.errors import ProblemError
from service.openapi import Shape, operation
from service.rendering import json_answer

__all__ = ["ProblemPage", "bp"]

bp = Blueprint("problems", __name__, url_prefix="/problems")

_HTML = "text/html"


class ProblemPage(BaseModel):
    """A problem code: `retryable` says whether the same request can succeed later."""

    type: str
    code: str
    status: int
    title: str
    retryable: bool


@bp.get("/<code>")
@public
@operation(
    summary="What a problem code means",
    answers={200: Shape(ProblemPage, "The code, as JSON or, for browsers, HTML.")},
    problems=["not_found"],
)
def show(code: str) -> Response:
    if code not in CODES:
        raise ProblemError("not_found", "there is no such problem code")
    known = CODES[code]
    page = ProblemPage(
        type=f"/problems/{code}",
        code=code,
        status=known.status,
        title=known.title,
        retryable=known.retryable,
    )
    if request.accept_mimetypes.best_match(["application/json", _HTML]) == _HTML:
        return Response(_html(page), content_type=f"{_HTML}; charset=utf-8")
    return json_answer(page)


def _html(page: ProblemPage) -> str:
    later = "The same request can succeed later." if page.retryable else "The same request will fail again."
    return (
        f'<!doctype html><html lang="en"><title>{escape(page.code)}</title>'
        f"<h1>{escape(page.code)}</h1><p>{escape(page.title)}. HTTP status {page.status}. {later}</p></html>"
    )
