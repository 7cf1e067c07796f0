"""How many requests a project may send: a bucket of tokens in Redis, shared by all processes."""

from __future__ import annotations

import math
import threading
import time

from flask import Flask, Response, g

from service.errors import ProblemError
from tasks.limits import ProjectLimits
from tasks.usage import BURST_S, Accounts, Token

__all__ = ["Throttle", "init_app"]

# How long after a change of a limit requests are still counted by the old one.
_KNOWN_FOR_S = 2.0


class Throttle:
    """Safe to use from many threads."""

    def __init__(self, accounts: Accounts, limits: ProjectLimits) -> None:
        self._accounts = accounts
        self._limits = limits
        self._known: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def admit(self, project: str) -> None:
        """Take a token of the project for this request; rate_limited when none is left."""
        per_second = self._per_second(project)
        if not per_second:
            return
        token = self._accounts.take_token(project, per_second)
        g.rate_limit = _headers(per_second, token)
        if not token.taken:
            raise ProblemError(
                "rate_limited",
                f"the project may send {per_second:g} requests per second",
                hint="wait as long as Retry-After says; ?wait= and event streams ask less often",
                headers={"Retry-After": str(max(1, math.ceil(token.next_in_s)))},
            )

    def _per_second(self, project: str) -> float:
        now = time.monotonic()
        until, per_second = self._known.get(project, (0.0, 0.0))
        if now >= until:
            per_second = self._limits.get(project).requests_per_second
            with self._lock:
                self._known[project] = (now + _KNOWN_FOR_S, per_second)
        return per_second


def init_app(app: Flask) -> None:
    app.after_request(_say)


def _say(response: Response) -> Response:
    response.headers.update(g.get("rate_limit", {}))
    return response


def _headers(per_second: float, token: Token) -> dict[str, str]:
    """The fields of draft-ietf-httpapi-ratelimit-headers-10."""
    most = max(1, math.floor(BURST_S * per_second))
    window = max(1, math.ceil(most / per_second))
    return {
        "RateLimit-Policy": f'"project";q={most};w={window}',
        "RateLimit": f'"project";r={token.left};t={math.ceil(token.next_in_s)}',
    }
