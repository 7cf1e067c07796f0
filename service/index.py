"""``GET /``: where to go from here."""

from __future__ import annotations

from flask import Blueprint, Response, json

from service.auth import public
from service.openapi import Text, operation
from service.rendering import JSON
from service.version import version

__all__ = ["bp"]

bp = Blueprint("index", __name__)

_LINKS = {
    "openapi": "/openapi.json",
    "health": "/healthz",
    "ready": "/readyz",
    "metrics": "/metrics",
    "techniques": "/v1/techniques",
    "spec_schema": "/v1/spec/schema",
    "uploads": "/v1/uploads",
    "models": "/v1/models",
    "datasets": "/v1/datasets",
    "jobs": "/v1/jobs",
    "project": "/v1/project",
    "usage": "/v1/usage",
    "audit": "/v1/audit",
}


@bp.get("/")
@public
@operation(summary="The parts of this API", answers={200: Text(JSON, "Their paths.")})
def show() -> Response:
    body = {"name": "featherweight", "version": version(), "links": _LINKS}
    return Response(json.dumps(body), content_type=JSON)
