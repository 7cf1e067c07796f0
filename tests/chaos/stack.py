"""The stack of a chaos run: workers with disks of their own, and the object storage behind a proxy."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from deploy.local.processes import Process
from deploy.local.stack import LocalStack
from tests.faults.proxy import FaultProxy

__all__ = ["ChaosStack", "Place"]

_SCRATCH = "FEATHERWEIGHT_SCRATCH_DIR"
_MIB = 1024 * 1024


class Place:
    """Where a worker runs, as on a machine of its own: what lies on its disk is there when the next one is
    started in its place."""

    def __init__(self, number: int, directory: Path) -> None:
        self.number = number
        self.scratch = directory / f"disk-{number}"
        self.worker: Process | None = None
        self.frozen = False

    def runners(self) -> list[psutil.Process]:
        """The processes of the jobs that its worker runs: children of its fork server."""
        if self.worker is None:
            return []
        with suppress(psutil.NoSuchProcess):
            servers = psutil.Process(self.worker.pid).children()
            return [runner for server in servers for runner in _children(server)]
        return []


class ChaosStack(LocalStack):
    """Start and stop it in one thread, like any stack; `places` have no workers before the start."""

    def __init__(self, directory: Path, *, places: int, seed: int, lease_s: float = 15.0) -> None:
        self.storage_proxy = FaultProxy(seed=seed)
        self._proxied = False
        self._place: Place | None = None
        overrides: dict[str, Any] = {
            "s3_endpoint_url": self.storage_proxy.url,
            # Short, for the faults of an hour come in minutes; and no job ends as poison here.
            "lease_s": lease_s,
            "heartbeat_s": lease_s / 5,
            "reaper_interval_s": 2,
            "stale_queued_s": 15,
            "stray_upload_s": 30,
            "visibility_timeout_s": 30,
            "max_attempts": 8,
            "retry_first_s": 2,
            "retry_max_s": 10,
            # As small as S3 allows: outputs go in parts too.
            "upload_part_bytes": 5 * _MIB,
            "runner_threads": 1,
        }
        super().__init__(directory, workers=0, **overrides)
        self.storage_proxy.target = self.object_store.ports.s3
        self.places = [Place(number, self.directory) for number in range(1, places + 1)]

    def start(self) -> ChaosStack:
        self.storage_proxy.start()
        self._proxied = True
        super().start()
        try:
            for place in self.places:
                self.start_at(place)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        super().stop()
        if self._proxied:
            self._proxied = False
            self.storage_proxy.stop()

    def start_at(self, place: Place) -> None:
        """A worker in the place of the one that ended."""
        self._place = place
        try:
            place.worker = self.start_worker()
        finally:
            self._place = None

    def kill_at(self, place: Place) -> None:
        """SIGKILL to the worker's process alone: what hangs on it must notice by itself."""
        worker = place.worker
        assert worker is not None
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        self.workers.remove(worker)
        place.worker = None

    def environment(self, redis_user: str = "api") -> dict[str, str]:
        values = super().environment(redis_user)
        return values if self._place is None else {**values, _SCRATCH: str(self._place.scratch)}


def _children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return list(process.children())
    return []
