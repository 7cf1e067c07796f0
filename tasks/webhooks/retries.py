"""When a delivery is attempted again."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tasks.settings import Settings

__all__ = ["LONGEST_REST_S", "RetryPolicy"]

# Of a receiver's Retry-After more is not believed.
LONGEST_REST_S = 86_400.0


@dataclass(frozen=True)
class RetryPolicy:
    """After attempt n a wait drawn evenly from half to one and a half of ``delays[n - 1]`` seconds, so that
    what failed together does not come back together; or a receiver's Retry-After, where that is longer. After
    one attempt more than there are delays it is over."""

    delays: Sequence[float]
    draw: Callable[[float, float], float] = field(default=random.uniform)

    @classmethod
    def of(cls, settings: Settings) -> RetryPolicy:
        """ValueError naming the part of the setting that is no number of seconds."""
        return cls([_seconds(part) for part in settings.webhook_retry_delays_s.split(",") if part.strip()])

    @property
    def attempts(self) -> int:
        """How many there are at most."""
        return len(self.delays) + 1

    def pause(self, attempt: int, retry_after_s: float | None = None) -> float | None:
        """Seconds from the end of attempt number `attempt`, from 1, to the next one; None when it was the
        last."""
        if attempt >= self.attempts:
            return None
        delay = self.delays[attempt - 1]
        return max(self.draw(delay / 2, delay * 1.5), min(retry_after_s or 0.0, LONGEST_REST_S))


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 30 * 86_400:
        raise ValueError(f"{text.strip()!r} in FEATHERWEIGHT_WEBHOOK_RETRY_DELAYS_S is no number of seconds")
    return value
