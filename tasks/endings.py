"""The problems of jobs that end although no worker has said that they shall."""

from __future__ import annotations

from collections.abc import Sequence

from featherweight.job import Attempt
from featherweight.problem import Problem, problem
from tasks.settings import Settings

__all__ = ["TOO_MANY_ATTEMPTS", "endings", "total_timeout", "with_evidence"]

TOO_MANY_ATTEMPTS = "too_many_attempts"


def endings(settings: Settings) -> dict[str, Problem]:
    """By code: what the job store's scripts write into records."""
    found = (_queue_timeout(), total_timeout(), _too_many(settings.max_attempts))
    return {each.code: each for each in found}


def total_timeout() -> Problem:
    return problem(
        "total_timeout",
        "the job was not done within its limits.max_total_s, which counts from its creation on",
        hint="submit it again with a longer limits.max_total_s, or without one",
    )


def with_evidence(error: Problem, attempts: Sequence[Attempt]) -> Problem:
    """`error` with what is known of each attempt, where it says that all were lost, and not that already."""
    if error.code != TOO_MANY_ATTEMPTS:
        return error
    told = "; ".join(_told(attempt) for attempt in attempts if attempt.counted)
    if not told or told in error.detail:
        return error
    return error.model_copy(update={"detail": f"{error.detail}: {told}"})


def _told(attempt: Attempt) -> str:
    where = f" in {attempt.stage}" if attempt.stage else ""
    how = f" ({attempt.detail})" if attempt.detail else ""
    return f"attempt {attempt.number} on {attempt.worker}: {attempt.ended_because}{where}{how}"


def _queue_timeout() -> Problem:
    return problem(
        "queue_timeout",
        "the job waited longer than its limits.max_queue_s before a worker was free",
        hint="submit it again, with a longer limits.max_queue_s if the queue is long",
    )


def _too_many(attempts: int) -> Problem:
    return problem(
        TOO_MANY_ATTEMPTS,
        f"{attempts} attempts at the job ended without a result, although the job itself was not refused",
        hint="the job's attempts say how each of them ended",
    )
