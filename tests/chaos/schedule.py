"""What goes wrong in a run, and when: drawn from its seed.

When is told by how many jobs have ended, not by a clock: a slow machine has the same faults at the same
places of the same work.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["INFRASTRUCTURE", "Fault", "Kind", "counts_for", "schedule"]


class Kind(StrEnum):
    """
    kill_worker          SIGKILL to a worker in the middle of a job
    kill_worker_storing  SIGKILL to a worker that is storing a job's outputs
    kill_runner          SIGKILL to the process of a job
    freeze_worker        SIGSTOP to a worker in the middle of a job, SIGCONT long after its lease ran out
    restart_redis        SIGKILL to Redis, started again on its append-only file
    fail_storage         the object storage answers every request with an error
    restart_api          SIGKILL to the API with all its processes, started again
    """

    KILL_WORKER = "kill_worker"
    KILL_WORKER_STORING = "kill_worker_storing"
    KILL_RUNNER = "kill_runner"
    FREEZE_WORKER = "freeze_worker"
    RESTART_REDIS = "restart_redis"
    FAIL_STORAGE = "fail_storage"
    RESTART_API = "restart_api"


INFRASTRUCTURE = frozenset({Kind.RESTART_REDIS, Kind.FAIL_STORAGE, Kind.RESTART_API})
"""Not two of these at once; the others may come at any time."""

# For 200 jobs; of a smaller run as many fewer, and at least one.
_COUNTS = {
    Kind.KILL_WORKER: 5,
    Kind.KILL_WORKER_STORING: 3,
    Kind.KILL_RUNNER: 5,
    Kind.FREEZE_WORKER: 1,
    Kind.RESTART_REDIS: 3,
    Kind.FAIL_STORAGE: 2,
    Kind.RESTART_API: 3,
}
_JOBS = 200


@dataclass(frozen=True)
class Fault:
    """Comes once `after` jobs have ended, `delay_s` after its victim came to be in the right place. `lasts_s`
    is how long whoever was struck is away."""

    kind: Kind
    after: int
    delay_s: float
    lasts_s: float


def counts_for(jobs: int) -> dict[Kind, int]:
    return {kind: max(1, round(count * jobs / _JOBS)) for kind, count in _COUNTS.items()}


def schedule(seed: int, jobs: int, *, counts: Mapping[Kind, int] | None = None) -> list[Fault]:
    """In the order in which they come. The last comes while a tenth of the jobs is left."""
    chance = random.Random(f"faults {seed}")
    kinds = [kind for kind, count in (counts or counts_for(jobs)).items() for _ in range(count)]
    chance.shuffle(kinds)
    places = sorted(chance.randrange(max(1, round(0.9 * jobs))) for _ in kinds)
    return [
        Fault(kind, after, delay_s=_delay(kind, chance), lasts_s=chance.uniform(0.5, 3.0))
        for kind, after in zip(kinds, places, strict=True)
    ]


def _delay(kind: Kind, chance: random.Random) -> float:
    # What is stored is stored in a moment; the rest of a job takes seconds.
    return chance.uniform(0.0, 0.05 if kind is Kind.KILL_WORKER_STORING else 2.5)
