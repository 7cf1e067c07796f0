"""What is told of an attempt that ended badly: how, and the last lines of its log.

What an exception says may name files of this machine, so each kind has a sentence of ours.
"""

from __future__ import annotations

import os

import redis
from kombu.exceptions import OperationalError

from tasks.gate import GateFailed
from tasks.joblog import JobLog
from tasks.records import Evidence
from tasks.sandbox.children import Exit, RunnerLost
from tasks.sandbox.exits import RunnerKilled, signal_name
from tasks.storage import StorageUnavailable

__all__ = ["INFRASTRUCTURE", "code_of", "evidence_of_exit", "evidence_of_loss"]

# What keeps an attempt from going on although the job is not to blame: another attempt may fare better.
INFRASTRUCTURE = (
    redis.RedisError,
    StorageUnavailable,
    OperationalError,
    RunnerKilled,
    RunnerLost,
    GateFailed,
    OSError,
    MemoryError,
)

_LINES = 20
_LENGTH = 2000


def code_of(error: BaseException) -> str:
    """The problem code of one of INFRASTRUCTURE."""
    if isinstance(error, StorageUnavailable):
        return "storage_unavailable"
    if isinstance(error, redis.RedisError | OperationalError):
        return "queue_unavailable"
    return "runner_killed" if isinstance(error, RunnerKilled) else "worker_failed"


def evidence_of_loss(error: BaseException, log: JobLog | None) -> Evidence:
    """Of an attempt that one of INFRASTRUCTURE ended."""
    tail = None if log is None else _tail(log)
    if isinstance(error, RunnerKilled):
        return Evidence(detail=str(error), signal=signal_name(-error.exit.code), log_tail=tail)
    return Evidence(detail=_sentence(error), log_tail=tail)


def evidence_of_exit(end: Exit | None, log: JobLog) -> Evidence:
    """Of an attempt whose job is to blame; `end` is None where no runner had been started."""
    if end is None:
        return Evidence()
    if end.code < 0:
        return Evidence(signal=signal_name(-end.code), log_tail=_tail(log))
    return Evidence(exit_code=end.code, log_tail=_tail(log))


def _tail(log: JobLog) -> str | None:
    lines = log.tail.decode(errors="replace").splitlines()[-_LINES:]
    return "\n".join(lines)[-_LENGTH:] or None


def _sentence(error: BaseException) -> str:
    if isinstance(error, StorageUnavailable):
        return "the object storage did not answer for too long"
    if isinstance(error, redis.RedisError | OperationalError):
        return "the job store did not answer for too long"
    if isinstance(error, RunnerLost):
        return "no process could be had to run the job, or it was lost with what had started it"
    if isinstance(error, GateFailed):
        return "the files could not be judged on this worker"
    if isinstance(error, OSError):
        return (
            f"the worker's system refused: {os.strerror(error.errno) if error.errno else 'no reason given'}"
        )
    return "the worker was out of memory"
