"""Who asks: the API key of every request, the project it opens, and what it may do there.

Every route needs a key unless its view is marked `public`; a new route is closed until somebody
opens it. What only looks (GET, HEAD, OPTIONS) needs the scope read, everything else submit, and a
view marked by `needs` what the mark says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from flask import Flask, current_app, g, request

from service.errors import ProblemError
from service.keys import InvalidKey, KeyRecord, Scope
from service.services import services

__all__ = ["init_app", "is_public", "needs", "project", "public", "scope_of"]

V = TypeVar("V", bound=Callable[..., Any])

_SCHEME = "Bearer "
_LOOKING = frozenset({"GET", "HEAD", "OPTIONS"})


def public(view: V) -> V:
    """Mark a view that needs no API key."""
    view.is_public = True  # type: ignore[attr-defined]
    return view


def is_public(view: Callable[..., Any]) -> bool:
    return getattr(view, "is_public", False)


def needs(scope: Scope) -> Callable[[V], V]:
    """Mark a view that needs another scope than its method says."""

    def mark(view: V) -> V:
        view.needed_scope = scope  # type: ignore[attr-defined]
        return view

    return mark


def scope_of(view: Callable[..., Any], method: str) -> Scope:
    """The scope that a key needs to call `view` with `method`."""
    return getattr(view, "needed_scope", None) or ("read" if method in _LOOKING else "submit")


def project() -> str:
    """The project that the request's key opens."""
    return cast("str", g.project)


def init_app(app: Flask) -> None:
    app.before_request(_admit)


def _admit() -> None:
    # No endpoint: an unknown path or method, which has nothing to guard and is answered by Flask.
    if request.endpoint is None or is_public(view := current_app.view_functions[request.endpoint]):
        return
    key = _authenticated()
    g.project = key.project
    g.key_id = key.id
    services().throttle.admit(key.project)
    needed = scope_of(view, request.method)
    if not key.may(needed):
        raise ProblemError(
            "scope_missing",
            f"this needs a key with the scope {needed}, and this one has {key.scope}",
            hint="whoever runs the service makes keys with other scopes",
        )


def _authenticated() -> KeyRecord:
    header = request.headers.get("Authorization", "")
    if not header.lower().startswith(_SCHEME.lower()):
        raise _refused("this needs an API key", "send the header Authorization: Bearer fw_…")
    try:
        return services().keys.verify(header[len(_SCHEME) :].strip())
    except InvalidKey:
        raise _refused("the API key is not valid", "it may be mistyped, expired or revoked") from None


def _refused(detail: str, hint: str) -> ProblemError:
    return ProblemError(
        "unauthenticated", detail, hint=hint, headers={"WWW-Authenticate": 'Bearer realm="featherweight"'}
    )
