"""When to try again and how long to wait first: one policy for every request of the library."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["Clock", "Deadline", "RetryPolicy", "retry_after"]

# It ends at any moment, and then its answer is there.
_IN_FLIGHT_CAP_S = 4.0


class Clock:
    """The time, as something a test can replace."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(frozen=True)
class RetryPolicy:
    """Full jitter: before retry n, counted from 0, a wait drawn evenly from 0 to min(cap, base * 2**n).

    A Retry-After of the service is waited out, with the draw on top of it so that a crowd of clients
    does not come back in one instant. One of more than `patience_s` is not: the error is raised,
    and carries it, for the caller to decide.
    """

    max_retries: int = 4
    base_s: float = 0.5
    cap_s: float = 20.0
    patience_s: float = 120.0
    draw: Callable[[float, float], float] = field(default=random.uniform)

    def pause(self, attempt: int, after: float | None = None) -> float | None:
        """Seconds to wait before trying again; None when it is time to give up."""
        if attempt >= self.max_retries or (after is not None and after > self.patience_s):
            return None
        return self.jitter(attempt) + (after or 0.0)

    def pause_in_flight(self, waited_s: float, attempt: int, after: float | None = None) -> float | None:
        """Seconds to wait for an attempt of ours that is still at work, which is no failure to be counted:
        `patience_s` in all; None when these are over, and where no retries are wanted."""
        if self.max_retries == 0 or waited_s > self.patience_s:
            return None
        return min(self.jitter(attempt), _IN_FLIGHT_CAP_S) + (after or 0.0)

    def jitter(self, attempt: int) -> float:
        return self.draw(0.0, min(self.cap_s, self.base_s * 2 ** min(attempt, 30)))


class Deadline:
    """A moment `seconds` from now; None is never."""

    def __init__(self, clock: Clock, seconds: float | None) -> None:
        self._clock = clock
        self._end = math.inf if seconds is None else clock.now() + max(0.0, seconds)

    @property
    def remaining(self) -> float:
        """Seconds left, 0 once it has passed, infinity when there is none."""
        return max(0.0, self._end - self._clock.now())

    @property
    def passed(self) -> bool:
        return self.remaining <= 0.0


def retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, given as seconds or as an HTTP date; None if it says nothing."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
