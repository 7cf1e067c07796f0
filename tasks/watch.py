"""Stand by a runner until it is dead: hear it out, and end it when it must not go on."""

from __future__ import annotations

import os
import selectors
import signal
import time
from contextlib import suppress
from typing import Any

import psutil

from featherweight.problem import Problem
from tasks.joblog import JobLog
from tasks.lease import Interrupted, Lease, Reason
from tasks.relay import Relay
from tasks.sandbox.children import Child, Exit, RunnerLost
from tasks.sandbox.disk import DiskUse
from tasks.sandbox.exits import disk_limit, memory_limit, thread_limit, time_limit

__all__ = ["Refused", "Watch"]

_TICK_S = 0.2
_COUNT_S = 1.0
_GRACE_S = 2.0
# The fork server may still be importing, which is no running time of the job.
_BIRTH_S = 300.0
# A process that is being killed may take a while to give back its memory.
_DEATH_S = 30.0
_READ_BYTES = 64 * 1024


class Refused(Exception):
    """The job fails, and `problem` says why; `exit` is how its runner ended, if there was one."""

    def __init__(self, problem: Problem, exit: Exit | None = None) -> None:
        super().__init__(problem.code)
        self.problem = problem
        self.exit = exit


class Watch:
    """`max_run_s` counts from the runner's birth. `memory_bytes` bounds the memory that it and its
    children do not share with the fork server; 0 is no limit. `processes` bounds its threads, and
    those of its children."""

    def __init__(
        self,
        child: Child,
        relay: Relay,
        log: JobLog,
        lease: Lease,
        *,
        max_run_s: int,
        memory_bytes: int,
        disk: DiskUse,
        processes: int,
    ) -> None:
        self._child = child
        self._relay = relay
        self._log = log
        self._lease = lease
        self._max_run_s = max_run_s
        self._memory_bytes = memory_bytes
        self._disk = disk
        self._processes = processes
        self._next_count = 0.0
        self._born_by = time.monotonic() + _BIRTH_S
        self._deadline: float | None = None
        self._stopped_by: Refused | Interrupted | None = None
        self._stopped_at = 0.0
        self._killed = False

    def until_dead(self) -> Exit:
        """How the runner ended by itself. Interrupted, Refused: it was ended; RunnerLost."""
        with selectors.DefaultSelector() as selector:
            for fd in (self._child.events, self._child.output, self._child.status):
                os.set_blocking(fd, False)
                selector.register(fd, selectors.EVENT_READ)
            while self._child.exit is None:
                for key, _ in selector.select(_TICK_S):
                    if not self._hear(key.fd):
                        selector.unregister(key.fd)
                self._relay.tick()
                self._stop_if_needed()
        self._hear_out()
        if isinstance(self._stopped_by, Refused):
            self._stopped_by.exit = self._child.exit
        if self._stopped_by is not None:
            raise self._stopped_by
        assert self._child.exit is not None
        return self._child.exit

    def _hear(self, fd: int) -> bool:
        """False when there will be nothing more."""
        if fd == self._child.status:
            self._child.hear()
            if self._deadline is None:
                self._deadline = time.monotonic() + self._max_run_s
            return True
        with suppress(BlockingIOError):
            data = os.read(fd, _READ_BYTES)
            if not data:
                return False
            (self._relay.feed if fd == self._child.events else self._log.write)(data)
        return True

    def _hear_out(self) -> None:
        """What the dead runner left in its pipes: at most what a pipe holds, if somebody still writes."""
        for fd in (self._child.events, self._child.output):
            for _ in range(32):
                with suppress(BlockingIOError):
                    data = os.read(fd, _READ_BYTES)
                    if data:
                        (self._relay.feed if fd == self._child.events else self._log.write)(data)
                        continue
                break
        self._relay.flush()

    def _stop_if_needed(self) -> None:
        if self._stopped_by is None:
            self._stopped_by = self._why_stop()
            if self._stopped_by is not None:
                self._stopped_at = time.monotonic()
                self._child.signal(signal.SIGTERM)
            return
        if self._child.pid is None:
            # Not born yet; once its pipes are closed the fork server kills it at birth.
            raise self._stopped_by
        waited = time.monotonic() - self._stopped_at
        if waited > self._grace_s and not self._killed:
            self._killed = True
            self._child.signal(signal.SIGKILL)
        if waited > _DEATH_S:
            raise RunnerLost("the runner cannot be killed")

    @property
    def _grace_s(self) -> float:
        """None for one that takes all the memory, or that could only disturb the job's next owner."""
        if isinstance(self._stopped_by, Interrupted) and self._stopped_by.reason is not Reason.LOST:
            return _GRACE_S
        return 0.0

    def _why_stop(self) -> Refused | Interrupted | None:
        interruption = self._lease.interruption
        if interruption is not None:
            return Interrupted(interruption)
        if self._deadline is None:
            if time.monotonic() > self._born_by:
                raise RunnerLost("the fork server does not answer")
            return None
        if time.monotonic() > self._deadline:
            return Refused(time_limit(self._max_run_s))
        if self._memory_bytes and self._own_bytes() > self._memory_bytes:
            return Refused(memory_limit(self._memory_bytes))
        if self._has_too_many_threads():
            return Refused(thread_limit(self._processes))
        excess = self._disk.excess()
        return None if excess is None else Refused(disk_limit(excess))

    def _has_too_many_threads(self) -> bool:
        # Finding children means looking at every process of the machine.
        if time.monotonic() < self._next_count:
            return False
        self._next_count = time.monotonic() + _COUNT_S
        return sum(_threads(process) for process in _with_children(self._child.pid)) > self._processes

    def _own_bytes(self) -> int:
        processes = _with_children(self._child.pid)
        resident = sum(_bytes(process, "memory_info", "rss") for process in processes)
        if resident <= self._memory_bytes:
            return resident
        # Dearer to find out, and without what was there before the fork.
        return sum(_bytes(process, "memory_full_info", "uss") for process in processes)


def _with_children(pid: int | None) -> list[Any]:
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def _threads(process: Any) -> int:
    with suppress(psutil.NoSuchProcess):
        return int(process.num_threads())
    return 0


def _bytes(process: Any, call: str, field: str) -> int:
    with suppress(psutil.NoSuchProcess):
        return int(getattr(getattr(process, call)(), field))
    return 0
