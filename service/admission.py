"""How many requests are worked on at once: those beyond that are told so in a moment, and come back later.

    begun ──> working ──> waiting ──> working ──> over
      │         (a long poll, an event stream: `service.waiting`)
      └── 503 overloaded, with Retry-After

A request that finds no place costs next to nothing, so the threads kept free for that (gunicorn.conf.py)
are enough, and those who ask whether the service lives are always answered.
"""

from __future__ import annotations

from flask import Flask, Response, g, request

from service.errors import ProblemError
from service.places import Seat
from service.services import services

__all__ = ["init_app"]

# Load balancers and monitoring must not take a busy service for a dead one.
_ALWAYS = frozenset({"health", "metrics"})


def init_app(app: Flask) -> None:
    app.before_request(_enter)
    app.after_request(_stay_for_the_body)
    app.teardown_request(_leave)


def _enter() -> None:
    if request.blueprint in _ALWAYS:
        return
    seat = Seat(services().working)
    if not seat.take():
        raise ProblemError(
            "overloaded",
            "as many requests are being worked on as can be",
            hint="send it again when Retry-After is over",
        )
    g.seat = seat


def _stay_for_the_body(response: Response) -> Response:
    """A file that is sent piece by piece holds its thread until the last of it."""
    if response.is_streamed and "seat" in g:
        response.call_on_close(g.pop("seat").leave)
    return response


def _leave(_: BaseException | None) -> None:
    if "seat" in g:
        g.seat.leave()
