"""Waiting out an outage in the middle of something long, which a single request would not be worth."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from featherweight._transport import Session
from featherweight.errors import APIError, Conflict, ConnectionFailed, FeatherweightError, ServiceUnavailable

__all__ = ["LONGEST_OUTAGE_S", "Outage"]

log = logging.getLogger("featherweight")

# The service is being restarted, or waits for its storage.
LONGEST_OUTAGE_S = 300.0
_T = TypeVar("_T")


class Outage:
    """Begins with the first failure that is endured; `over` says that something has worked since.

    A client that was told never to try again (``max_retries=0``) endures nothing.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._began: float | None = None
        self._failures = 0

    def over(self) -> None:
        self._began, self._failures = None, 0

    def endure(self, failure: FeatherweightError) -> None:
        """Wait before the next try; raises `failure` when it has lasted too long."""
        clock, policy = self._session.clock, self._session.policy
        now = clock.now()
        self._began = now if self._began is None else self._began
        if policy.max_retries == 0 or now - self._began > LONGEST_OUTAGE_S:
            raise failure
        after = failure.retry_after if isinstance(failure, APIError) else None
        log.info("%s; trying again", failure)
        clock.sleep(policy.jitter(self._failures) + (after or 0.0))
        self._failures += 1

    def endured(self, request: Callable[[], _T]) -> _T:
        """The answer of `request`, which may be sent again."""
        while True:
            try:
                answer = request()
            except (ConnectionFailed, ServiceUnavailable) as error:
                self.endure(error)
            except Conflict as error:
                # Of a process that died over the first try: it is let go of within a minute.
                if error.code != "idempotency_key_in_flight":
                    raise
                self.endure(error)
            else:
                return answer
