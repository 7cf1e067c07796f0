"""An id for every request, a line in the log when it is answered, and the headers every answer has.

The line holds no query string, no header and no body: file names, keys and data stay out of it.
"""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from flask import Flask, Response, g, request

from service.redaction import Redaction
from tasks.settings import Settings

__all__ = ["configure_logging", "init_app"]

log = logging.getLogger("service.requests")

_SANE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FIELDS = (
    "request_id",
    "project",
    "key_id",
    "method",
    "path",
    "route",
    "status",
    "code",
    "ms",
    "bytes_in",
    "action",
    "target",
    "outcome",
)

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}

# For a year; told only by those who were reached by https, where browsers believe it.
_HTTPS_ONLY = "max-age=31536000"


def init_app(app: Flask) -> None:
    app.before_request(_begin)
    app.after_request(_finish)


def _begin() -> None:
    given = request.headers.get("X-Request-Id", "")
    g.request_id = given if _SANE.fullmatch(given) else f"req_{uuid.uuid4().hex}"
    g.began = time.perf_counter()


def _finish(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.request_id
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    if request.is_secure:
        response.headers.setdefault("Strict-Transport-Security", _HTTPS_ONLY)
    # What needed a key is for its holder alone.
    if "project" in g:
        response.headers.setdefault("Cache-Control", "no-store")
    log.info("request", extra=_facts(response))
    return response


def _facts(response: Response) -> dict[str, Any]:
    return {
        "request_id": g.request_id,
        "project": g.get("project"),
        "key_id": g.get("key_id"),
        "method": request.method,
        "path": request.path,
        "route": request.url_rule.rule if request.url_rule else None,
        "status": response.status_code,
        "code": g.get("problem_code"),
        "ms": round((time.perf_counter() - g.began) * 1000, 2),
        "bytes_in": request.content_length,
    }


class OneLine(logging.Formatter):
    """A JSON object on one line, whatever the message holds. `redact` is applied to every text in it."""

    def __init__(self, redact: Callable[[str], str] = str) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name in _FIELDS if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        texts = {name: self._redact(value) for name, value in line.items() if isinstance(value, str)}
        return json.dumps(line | texts, default=str)


def configure_logging(settings: Settings) -> None:
    """Send the service's log to stderr, unless the process has handlers already."""
    logger = logging.getLogger("service")
    logger.setLevel(settings.log_level.upper())
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(OneLine(Redaction(settings)))
        logger.addHandler(handler)
