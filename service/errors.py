"""The one place where exceptions become HTTP: RFC 9457 problems, and nothing else, leave here.

ProblemError          raised by the service itself, with a code of ``featherweight.problem.CODES``
NotFound              404, for an unknown id and for another project's alike
Conflict              409, with the code it carries
SubmissionRefused     the problem it carries
StorageUnavailable    503
redis.RedisError      503, when it says that Redis is away
HTTPException         raised by Flask: 404, 405, 413 …
anything else         500, logged with its traceback, of which the caller sees nothing
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import redis
from flask import Flask, Response, g, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from featherweight.problem import CODES, MEDIA_TYPE, FieldError, Problem, field_errors, problem
from tasks.storage import StorageUnavailable
from tasks.store import Conflict, NotFound
from tasks.submission import SubmissionRefused, faulty

__all__ = ["ProblemError", "init_app", "invalid", "validated"]

log = logging.getLogger(__name__)

RETRY_AFTER_S = 2

# Redis is away, starting, full or a replica: the same request can succeed later. Other answers of
# Redis are faults of ours.
REDIS_IS_AWAY = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
)

_STATUS_CODES = {
    400: "bad_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "payload_too_large",
    415: "unsupported_media_type",
    422: "invalid_request",
    429: "rate_limited",
    503: "overloaded",
}

M = TypeVar("M", bound=BaseModel)


class ProblemError(Exception):
    """An answer other than the one hoped for. KeyError for a code that is not in CODES."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        hint: str | None = None,
        errors: Iterable[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.status = CODES[code].status
        self.detail = detail
        self.hint = hint
        self.errors = list(errors)
        self.headers = dict(headers or {})

    @classmethod
    def of(cls, problem: Problem, headers: Mapping[str, str] | None = None) -> ProblemError:
        """The answer that tells this problem."""
        return cls(problem.code, problem.detail, hint=problem.hint, errors=problem.errors, headers=headers)


def invalid(
    errors: Sequence[FieldError], code: str = "invalid_request", *, hint: str | None = None
) -> ProblemError:
    """The problem of values that are not valid, with the first of them in words."""
    return ProblemError.of(faulty(errors, code, hint=hint))


def validated(type_: type[M], body: Any) -> M:
    """`body` as `type_`; an invalid_request with a pointer to every fault."""
    try:
        return type_.model_validate(body)
    except ValidationError as error:
        raise invalid(field_errors(error, body)) from None


def init_app(app: Flask) -> None:
    app.register_error_handler(ProblemError, render)
    app.register_error_handler(NotFound, _not_found)
    app.register_error_handler(Conflict, _conflict)
    app.register_error_handler(SubmissionRefused, _submission_refused)
    app.register_error_handler(StorageUnavailable, _storage_unavailable)
    app.register_error_handler(redis.RedisError, _redis_error)
    app.register_error_handler(HTTPException, _http_exception)
    app.register_error_handler(Exception, _internal_error)


def render(error: ProblemError) -> Response:
    """The problem as an answer."""
    request_id = g.get("request_id")
    body = problem(error.code, error.detail, hint=error.hint, errors=error.errors, request_id=request_id)
    g.problem_code = error.code
    response = Response(body.model_dump_json(exclude_none=True), status=error.status, content_type=MEDIA_TYPE)
    response.headers.update(error.headers)
    if body.retryable and "Retry-After" not in response.headers:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def _not_found(error: NotFound) -> Response:
    return render(ProblemError("not_found", f"nothing in this project is called {str(error)[:100]!r}"))


def _conflict(error: Conflict) -> Response:
    return render(ProblemError(error.code, str(error)))


def _submission_refused(error: SubmissionRefused) -> Response:
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    return render(ProblemError.of(error.problem, headers))


def _storage_unavailable(error: StorageUnavailable) -> Response:
    log.warning("storage unavailable: %s", error, extra={"request_id": g.get("request_id")})
    return render(
        ProblemError(
            "storage_unavailable", "the object storage does not answer; nothing of this request was kept"
        )
    )


def _redis_error(error: redis.RedisError) -> Response:
    if not isinstance(error, REDIS_IS_AWAY):
        return _internal_error(error)
    log.warning("redis unavailable: %s", type(error).__name__, extra={"request_id": g.get("request_id")})
    return render(ProblemError("queue_unavailable", "the job store does not answer"))


def _http_exception(error: HTTPException) -> Response:
    status = error.code or 500
    code = _STATUS_CODES.get(status, "internal_error" if status >= 500 else "bad_request")
    headers = {}
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return render(ProblemError(code, _sentence(status), headers=headers))


def _sentence(status: int) -> str:
    """Ours: Werkzeug's are written for people with browsers."""
    if status == 404:
        return f"there is nothing at {request.path[:200]}"
    if status == 405:
        return f"{request.method[:20]} is not possible here"
    return "the request cannot be understood" if status < 500 else "the service failed"


def _internal_error(error: Exception) -> Response:
    log.error(
        "unhandled exception", exc_info=error, extra={"request_id": g.get("request_id"), "path": request.path}
    )
    return render(ProblemError("internal_error", "the service failed; the fault is logged under request_id"))
