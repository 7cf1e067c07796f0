"""Does what the schedule says to the running stack, and brings back whatever it took away.

Everything here is done in the thread that started the stack: the kernel ends a process with the thread that
made it.
"""

from __future__ import annotations

import heapq
import logging
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import redis

from tests.chaos.schedule import INFRASTRUCTURE, Fault, Kind
from tests.chaos.stack import ChaosStack, Place
from tests.faults.proxy import Answer, Pass

__all__ = ["Injector", "Struck"]

_log = logging.getLogger(__name__)

# How long a fault waits for a victim in the right place before it takes one that is not.
_PATIENCE_S = 60.0
_FINALIZING = "fw:jobs:local:state:finalizing"


@dataclass(frozen=True)
class Struck:
    """`at` is in seconds since the run began, `what` who was struck."""

    kind: Kind
    at: float
    what: str


class Injector:
    """`tick` often. Faults come one after the other; what they took away comes back meanwhile."""

    def __init__(
        self, stack: ChaosStack, faults: Sequence[Fault], *, seed: int, storage_outage_s: float = 20.0
    ) -> None:
        self.struck: list[Struck] = []
        self.missed: list[Fault] = []
        self._stack = stack
        self._faults = list(faults)
        self._chance = random.Random(f"victims {seed}")
        self._storage_outage_s = storage_outage_s
        self._began = time.monotonic()
        self._due_since: float | None = None
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._entries = 0
        self._away: set[Kind] = set()
        self._redis = stack.redis

    @property
    def over(self) -> bool:
        """Nothing is to come and everything is back."""
        return not self._faults and not self._agenda

    def give_up(self) -> None:
        """There are no jobs any more: what has not struck has missed."""
        self.missed += self._faults
        self._faults.clear()

    def tick(self, ended: int) -> None:
        """`ended` jobs have ended."""
        now = time.monotonic()
        while self._agenda and self._agenda[0][0] <= now:
            heapq.heappop(self._agenda)[2]()
        self._look_after_workers()
        if self._faults and self._faults[0].after <= ended:
            self._due_since = self._due_since or now
            if self._strike(self._faults[0], waited_s=now - self._due_since):
                self._faults.pop(0)
                self._due_since = None

    # What goes wrong

    def _strike(self, fault: Fault, *, waited_s: float) -> bool:
        """False when it is to be tried again at the next tick."""
        if fault.kind in INFRASTRUCTURE:
            if self._away:
                return False
            what = {
                Kind.RESTART_REDIS: self._restart_redis,
                Kind.FAIL_STORAGE: self._fail_storage,
                Kind.RESTART_API: self._restart_api,
            }[fault.kind](fault)
        else:
            place = self._victim_of(fault, hurried=waited_s > _PATIENCE_S)
            if place is None:
                return False
            what = {
                Kind.KILL_WORKER: self._kill_worker,
                Kind.KILL_WORKER_STORING: self._kill_worker,
                Kind.KILL_RUNNER: self._kill_runner,
                Kind.FREEZE_WORKER: self._freeze_worker,
            }[fault.kind](place, fault)
        self.struck.append(Struck(fault.kind, round(time.monotonic() - self._began, 2), what))
        _log.info("%s: %s", fault.kind, what)
        return True

    def _kill_worker(self, place: Place, fault: Fault) -> str:
        assert place.worker is not None
        name = f"{place.worker.name} ({place.worker.pid})"
        self._stack.kill_at(place)
        self._later(fault.lasts_s, lambda: self._stack.start_at(place))
        return name

    def _kill_runner(self, place: Place, fault: Fault) -> str:
        runner = self._chance.choice(place.runners())
        runner.kill()
        return f"runner {runner.pid}"

    def _freeze_worker(self, place: Place, fault: Fault) -> str:
        worker = place.worker
        assert worker is not None
        os.kill(worker.pid, signal.SIGSTOP)
        # Past the lease, and long enough for another worker to have taken the job and be at it.
        frozen_s = 1.5 * self._stack.settings.lease_s + 2 * self._stack.settings.reaper_interval_s
        place.frozen = True

        def thaw() -> None:
            os.kill(worker.pid, signal.SIGCONT)
            place.frozen = False

        self._later(frozen_s, thaw)
        return f"{worker.name} ({worker.pid}) for {frozen_s:.0f} s"

    def _restart_redis(self, fault: Fault) -> str:
        server = self._stack.redis_server
        assert server is not None
        server.kill()
        self._gone(fault.kind, fault.lasts_s, lambda: server.start())
        return f"away for {fault.lasts_s:.1f} s"

    def _fail_storage(self, fault: Fault) -> str:
        status = self._chance.choice([500, 503])
        self._stack.storage_proxy.set(Answer(status))
        self._gone(fault.kind, self._storage_outage_s, lambda: self._stack.storage_proxy.set(Pass()))
        return f"{status} for {self._storage_outage_s:.0f} s"

    def _restart_api(self, fault: Fault) -> str:
        assert self._stack.api is not None
        self._stack.api.kill()
        self._gone(fault.kind, fault.lasts_s, self._stack.start_api)
        return f"away for {fault.lasts_s:.1f} s"

    # Who is struck

    def _victim_of(self, fault: Fault, *, hurried: bool) -> Place | None:
        """A worker that is where the fault is to strike, for as long as it is to have been there."""
        if fault.kind is Kind.KILL_WORKER_STORING and not hurried:
            place = self._storing()
        else:
            busy = [place for place in self._stack.places if not place.frozen and place.runners()]
            place = self._chance.choice(busy) if busy else None
        if place is None:
            return None
        time.sleep(fault.delay_s)
        # It may have ended in the meantime; a worker between two jobs is a victim as good as any.
        return place if fault.kind is not Kind.KILL_RUNNER or place.runners() else None

    def _storing(self) -> Place | None:
        """The place of a worker that is just now storing the outputs of a job."""
        deadline = time.monotonic() + 0.1
        with suppress(redis.RedisError):
            while time.monotonic() < deadline:
                for job_id in cast("list[bytes]", self._redis.zrange(_FINALIZING, 0, -1)):
                    name = cast("bytes | None", self._redis.hget(f"fw:job:{job_id.decode()}", "worker"))
                    place = self._place_of(name)
                    if place is not None:
                        return place
                time.sleep(0.003)
        return None

    def _place_of(self, worker: bytes | None) -> Place | None:
        pid = (worker or b"").rpartition(b":")[2]
        for place in self._stack.places:
            if place.worker is not None and not place.frozen and str(place.worker.pid).encode() == pid:
                return place
        return None

    def _look_after_workers(self) -> None:
        """A worker may end by faults alone. StartError for one that ended by itself."""
        for place in self._stack.places:
            if place.worker is not None:
                place.worker.check()

    # What comes back

    def _gone(self, kind: Kind, seconds: float, back: Callable[[], Any]) -> None:
        self._away.add(kind)

        def come_back() -> None:
            back()
            self._away.discard(kind)

        self._later(seconds, come_back)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        self._entries += 1
        heapq.heappush(self._agenda, (time.monotonic() + seconds, self._entries, action))
