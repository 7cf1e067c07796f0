"""Who asks: the API key of every request, and the project it opens.

Every route needs a key unless its view is marked `public`; a new route is closed until somebody
opens it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from flask import Flask, current_app, g, request

from service.errors import ProblemError
from service.keys import InvalidKey
from service.services import services

__all__ = ["init_app", "is_public", "project", "public"]

V = TypeVar("V", bound=Callable[..., Any])

_SCHEME = "Bearer "


def public(view: V) -> V:
    """Mark a view that needs no API key."""
    view.is_public = True  # type: ignore[attr-defined]
    return view


def is_public(view: Callable[..., Any]) -> bool:
    return getattr(view, "is_public", False)


def project() -> str:
    """The project that the request's key opens."""
    return cast("str", g.project)


def init_app(app: Flask) -> None:
    app.before_request(_authenticate)


def _authenticate() -> None:
    # No endpoint: an unknown path or method, which has nothing to guard and is answered by Flask.
    if request.endpoint is None or is_public(current_app.view_functions[request.endpoint]):
        return
    header = request.headers.get("Authorization", "")
    if not header.lower().startswith(_SCHEME.lower()):
        raise _refused("this needs an API key", "send the header Authorization: Bearer fw_…")
    try:
        key = services().keys.verify(header[len(_SCHEME) :].strip())
    except InvalidKey:
        raise _refused("the API key is not valid", "it may be mistyped or revoked") from None
    g.project = key.project
    g.key_id = key.id


def _refused(detail: str, hint: str) -> ProblemError:
    return ProblemError(
        "unauthenticated", detail, hint=hint, headers={"WWW-Authenticate": 'Bearer realm="featherweight"'}
    )
