"""A claim kept alive: renewed in the background, and asked whether the job should go on."""

from __future__ import annotations

import logging
import math
import threading
import time
from enum import Enum
from types import TracebackType

import redis

from tasks.records import Claim, Renewal
from tasks.settings import Settings
from tasks.store import JobStore

__all__ = ["Interrupted", "Lease", "Reason"]

_log = logging.getLogger(__name__)
_POLL_S = 1.0


class Reason(Enum):
    CANCELLED = "cancelled"
    OVERDUE = "overdue"
    LOST = "lost"
    STOPPING = "stopping"


class Interrupted(Exception):
    """The attempt must end now."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Lease:
    """A context in which the claim is renewed every ``heartbeat_s``, by a thread.

    `stopping` is set when the worker shuts down. When Redis cannot be reached the work goes on:
    nobody else can claim the job meanwhile, and nothing is published without asking Redis. How long the job
    may still take by its max_total_s is known since the claim, so that this deadline needs no Redis.
    """

    def __init__(self, claim: Claim, store: JobStore, settings: Settings, stopping: threading.Event) -> None:
        self._claim = claim
        self._store = store
        self._heartbeat_s = settings.heartbeat_s
        self._stopping = stopping
        self._reason: Reason | None = None
        self._due_at = _due_at(claim)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease-{claim.job_id}", daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    @property
    def interruption(self) -> Reason | None:
        """Why the attempt must end, if it must. A lost lease comes before anything else."""
        return self._claims_end or (Reason.STOPPING if self._stopping.is_set() else None)

    @property
    def _claims_end(self) -> Reason | None:
        return self._reason or (Reason.OVERDUE if time.monotonic() >= self._due_at else None)

    def check(self) -> None:
        """Raise Interrupted when the attempt must end."""
        reason = self.interruption
        if reason is not None:
            raise Interrupted(reason)

    def check_claim(self) -> None:
        """The same, but a worker that shuts down still finishes what it is about."""
        reason = self._claims_end
        if reason is not None:
            raise Interrupted(reason)

    def lose(self) -> None:
        """The store has said that the claim is not ours any more."""
        self._reason = Reason.LOST

    def wait(self, seconds: float) -> None:
        """Sleep, unless interrupted; raises Interrupted."""
        deadline = time.monotonic() + seconds
        while True:
            self.check()
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.2))

    def _keep(self) -> None:
        renewed = time.monotonic()
        while not self._over.wait(min(_POLL_S, self._heartbeat_s)):
            due = time.monotonic() - renewed >= self._heartbeat_s
            try:
                answer = self._store.renew(self._claim) if due else self._store.poll(self._claim)
            except redis.RedisError as error:
                _log.warning("cannot renew the lease of %s: %s", self._claim.job_id, error)
                continue
            if due:
                renewed = time.monotonic()
            self._note(answer)

    def _note(self, answer: Renewal) -> None:
        if not answer.owned:
            self.lose()
        elif answer.cancel_requested and self._reason is None:
            self._reason = Reason.CANCELLED


def _due_at(claim: Claim) -> float:
    """When the job's max_total_s will have passed, on this machine's monotonic clock."""
    total_s, started_at = claim.job.limits.max_total_s, claim.job.started_at
    if total_s is None or started_at is None:
        return math.inf
    return time.monotonic() + total_s - (started_at - claim.job.created_at).total_seconds()
