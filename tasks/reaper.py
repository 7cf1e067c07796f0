"""What nobody else looks after any more: lost leases, lost messages, waiting too long, unsettled jobs.

A thread in every worker; a lock in Redis lets one of them work at a time. All of it can be done
twice without harm.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import redis
from kombu.exceptions import OperationalError

from tasks.queue import Queue
from tasks.scratch import discard_leftovers, job_ids
from tasks.settings import Settings
from tasks.settle import Settler
from tasks.storage import Storage, StorageUnavailable
from tasks.store import JobStore

__all__ = ["Reaper"]

_log = logging.getLogger(__name__)
_AWAY = (redis.RedisError, OperationalError, StorageUnavailable, OSError)
_SWEEP_EVERY_S = 600.0


class Reaper:
    """`clock` counts seconds, those in which this process was frozen too: it shows absences."""

    def __init__(
        self,
        settings: Settings,
        client: redis.Redis,
        store: JobStore,
        storage: Storage,
        queue: Queue,
        clock: Callable[[], float] = time.monotonic,
        *,
        settler: Settler | None = None,
        chores: Sequence[Callable[[], None]] = (),
    ) -> None:
        self._settings = settings
        self._redis = client
        self._store = store
        self._settler = settler or Settler(store, storage)
        self._chores = tuple(chores)
        self._queue = queue
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="reaper", daemon=True)
        self._clock = clock
        self._looked_at = clock()
        self._spare_leases_until = 0.0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()

    def look(self) -> None:
        """Do once whatever is due, whether or not another reaper just has. Raises when parts are away."""
        self._requeue_lost()
        for job_id in self._store.expire_queued():
            _log.warning("%s waited too long and expired", job_id)
        for job_id in self._store.expire_overdue():
            _log.warning("%s was not done within the time it had in total and expired", job_id)
        self._announce_forgotten()
        self._settle_ended()
        self._do_chores()

    def sweep_scratch(self) -> None:
        """Remove the folders of jobs that have ended; those of the others hold finished steps."""
        for job_id in job_ids(self._settings.scratch_dir):
            record = self._store.find(job_id)
            if record is not None and record.done:
                # The worker that left it may have died before it could take its uploads back.
                self._settler.settle(record)
            if record is None or record.done:
                discard_leftovers(self._settings.scratch_dir, job_id)

    def _work(self) -> None:
        swept_at = None
        while not self._over.is_set():
            try:
                self._look_if_my_turn()
                if swept_at is None or time.monotonic() - swept_at > _SWEEP_EVERY_S:
                    self.sweep_scratch()
                    swept_at = time.monotonic()
            except _AWAY as error:
                _log.warning("the reaper waits: %s", error)
            except Exception:  # noqa: BLE001 - a worker without a reaper loses jobs quietly
                _log.exception("the reaper goes on")
            self._over.wait(self._settings.reaper_interval_s)

    def _look_if_my_turn(self) -> None:
        # Not released: until it runs out nobody needs to look again.
        turn_ms = int(900 * self._settings.reaper_interval_s)
        if self._redis.set("fw:reaper", "1", nx=True, px=turn_ms):
            self.look()
        self._note_absence()

    def _note_absence(self) -> None:
        """After Redis was away, or this process frozen, others get the time to renew first."""
        now = self._clock()
        if now - self._looked_at > self._settings.lease_s:
            self._spare_leases_until = now + self._settings.lease_s
        self._looked_at = now

    def _requeue_lost(self) -> None:
        self._note_absence()
        if self._clock() < self._spare_leases_until:
            return
        for job_id in self._store.expire_leases():
            _log.warning("%s lost its worker and is queued again", job_id)
            self._announce(job_id)

    def _announce_forgotten(self) -> None:
        """A message for each queued job that could be claimed and for which there is none. Looking
        through a queue is dear, so only when a job has been waiting for long."""
        stale = map(self._store.find, self._store.stale_queued(self._settings.stale_queued_s))
        for queue in {record.queue for record in stale if record is not None}:
            for job_id in self._store.unannounced(queue, self._queue.waiting(queue)):
                _log.warning("%s had no message left and is announced again", job_id)
                self._queue.enqueue(job_id, queue=queue)

    def _settle_ended(self) -> None:
        for job_id in self._store.unsettled():
            record = self._store.find(job_id)
            if record is None:
                self._store.settled(job_id)
            else:
                self._settler.settle(record)

    def _do_chores(self) -> None:
        """One that fails does not keep the others from being done."""
        for chore in self._chores:
            try:
                chore()
            except _AWAY as error:
                _log.warning("the reaper leaves a chore for later: %s", error)
            except Exception:  # noqa: BLE001 - see _work
                _log.exception("the reaper goes on")

    def _announce(self, job_id: str) -> None:
        record = self._store.find(job_id)
        if record is not None:
            self._queue.enqueue(job_id, queue=record.queue)
