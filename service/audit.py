"""``/v1/audit``, and the entry that a request leaves there."""

from __future__ import annotations

from flask import Blueprint, Flask, Response, current_app, g, request

from featherweight.resources import AuditEntry, Page
from service.auth import is_public, needs, project
from service.openapi import Shape, operation, paging
from service.rendering import bad_cursor, json_answer, window
from service.services import services

__all__ = ["bp", "init_app"]

bp = Blueprint("audit", __name__, url_prefix="/v1/audit")

# Views that hand out what a project is worth, or tell who did what.
_FETCHING = frozenset({"jobs.artifact", "jobs.report", "jobs.logs", "batches.results", "audit.index"})
_CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_REFUSED = frozenset({401, 403})
_TOO_MANY = 429
_TARGET_LENGTH = 64


def init_app(app: Flask) -> None:
    app.after_request(_record)


@bp.get("")
@needs("admin")
@operation(
    summary="Who did what in the project, newest first",
    answers={200: Shape(Page[AuditEntry], "A page.")},
    parameters=paging(),
    problems=["bad_cursor", "invalid_request"],
)
def index() -> Response:
    """Every request that changed something, fetched a file or was refused, and what the operator did to
    keys and limits, for as long as entries are kept."""
    wanted = window()
    try:
        entries, following = services().audit.list(project(), limit=wanted.limit, cursor=wanted.cursor)
    except ValueError:
        raise bad_cursor() from None
    found = Page[AuditEntry](data=list(entries), has_more=following is not None, next_cursor=following)
    return json_answer(found)


def _record(response: Response) -> Response:
    if _is_worth_it(response):
        services().audit.record(
            project=g.get("project"),
            key_id=g.get("key_id"),
            action=request.endpoint or "",
            target=_target(response),
            outcome=g.get("problem_code", "ok"),
            status=response.status_code,
            request_id=g.request_id,
        )
    return response


def _is_worth_it(response: Response) -> bool:
    # Refusals for being too many are too many to keep.
    if request.endpoint is None or response.status_code == _TOO_MANY:
        return False
    if is_public(current_app.view_functions[request.endpoint]):
        return False
    return request.method in _CHANGING or request.endpoint in _FETCHING or response.status_code in _REFUSED


def _target(response: Response) -> str | None:
    """The id in the path, or of what was made."""
    for value in (request.view_args or {}).values():
        return str(value)[:_TARGET_LENGTH]
    made = response.headers.get("Location", "") if response.status_code in (201, 202) else ""
    return made.rpartition("/")[2] or None
