"""Plans for the service: the caller's bytes are fetched, and read in a process that may be lost.

    service ──> Planner.plan ──fetch──> <scratch>/model.bin, data.bin
                     │ ──task.json──> tasks.plan_process (locked down) ──result.json──> Plan
                     └── outline and shapes kept in Redis by the file's sha256

A model is read once: a second plan of it fetches nothing. Neither this module nor its callers parse a model.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import redis
from pydantic import ValidationError

from featherweight.plan import Plan
from featherweight.spec import CompressionSpec
from tasks.records import DatasetRecord, ModelRecord
from tasks.settings import Settings
from tasks.storage import Storage

__all__ = ["NotPlannable", "Planner", "PlannerBusy"]

_log = logging.getLogger(__name__)
_ROOT = Path(__file__).parents[1]
_MAX_RESULT = 64 << 20
# Of tasks.plan_process, which is not imported here.
_CANNOT_CONFINE = 70
_AT_ONCE = 2
# A request that waits holds a thread of the service.
_PATIENCE_S = 2.0
_PREFIX = "plan-"
_LEFT_BEHIND_S = 3600.0
# Raised whenever what an outline holds changes: what was kept before is then not found any more.
_VERSION = 2


class NotPlannable(Exception):
    """No plan can be made of these files; says why."""


class PlannerBusy(Exception):
    """As many plans as may be are being made, or there is no room left for another."""


class Planner:
    """Makes plans, a few at a time. Safe to use from many threads."""

    def __init__(self, settings: Settings, client: redis.Redis, storage: Storage) -> None:
        self._settings = settings
        self._redis = client
        self._storage = storage
        self._free = threading.BoundedSemaphore(_AT_ONCE)

    def plan(self, model: ModelRecord, dataset: DatasetRecord | None, spec: CompressionSpec) -> Plan:
        """What a job of `spec` would do.

        Raises NotPlannable, PlannerBusy, FileNotFoundError for files that are gone and StorageUnavailable.
        """
        if not self._free.acquire(timeout=_PATIENCE_S):
            raise PlannerBusy
        try:
            with self._scratch() as scratch:
                return self._plan(scratch, model, dataset, spec)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EAGAIN, errno.ENOMEM):
                raise PlannerBusy from error
            raise
        finally:
            self._free.release()

    def _plan(
        self, scratch: Path, model: ModelRecord, dataset: DatasetRecord | None, spec: CompressionSpec
    ) -> Plan:
        task: dict[str, Any] = {
            "spec": spec.model_dump(mode="json"),
            "has_dataset": dataset is not None,
            "outline": self._kept("outline", model.sha256),
        }
        if task["outline"] is None:
            if model.bytes > self._settings.max_plan_bytes:
                raise NotPlannable(
                    f"the model has {model.bytes} bytes; plans are made of models of up to "
                    f"{self._settings.max_plan_bytes}"
                )
            self._storage.get_file(model.key, scratch / "model.bin")
            task["model"] = "model.bin"
        if dataset is not None:
            task |= self._data(scratch, dataset)
        result = self._run(scratch, task)
        if task["outline"] is None and result.get("outline") is not None:
            self._keep("outline", model.sha256, result["outline"])
        if dataset is not None and task.get("shapes") is None and result.get("shapes") is not None:
            self._keep("shapes", dataset.sha256, result["shapes"])
        return _plan_of(result)

    def _data(self, scratch: Path, dataset: DatasetRecord) -> dict[str, Any]:
        shapes = self._kept("shapes", dataset.sha256)
        if shapes is not None:
            return {"shapes": shapes}
        limit = self._settings.max_plan_bytes
        if dataset.bytes > limit:
            return {"not_counted": f"it has {dataset.bytes} bytes, and plans read up to {limit}"}
        self._storage.get_file(dataset.key, scratch / "data.bin")
        return {"dataset": "data.bin"}

    def _run(self, scratch: Path, task: dict[str, Any]) -> dict[str, Any]:
        settings = self._settings
        task |= {
            "memory_bytes": settings.plan_memory_bytes,
            "cpu_s": settings.plan_timeout_s,
            "sandbox": settings.sandbox,
            "runner_uid": settings.runner_uid,
        }
        (scratch / "task.json").write_text(json.dumps(task))
        # A session of its own, so that whatever it starts can be killed with it.
        with (scratch / "result.json").open("wb") as result, (scratch / "task.json").open("rb") as given:
            process = subprocess.Popen(  # noqa: S603 - nothing in it comes from a caller
                [sys.executable, "-P", "-m", "tasks.plan_process", str(scratch), str(os.getpid())],
                stdin=given,
                stdout=result,
                stderr=subprocess.DEVNULL,
                env=_environment(scratch),
                cwd=scratch,
                start_new_session=True,
            )
            code = self._wait(process)
        if code != 0:
            raise NotPlannable(_ended(code, settings.plan_timeout_s))
        return _result(scratch / "result.json")

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        try:
            return process.wait(self._settings.plan_timeout_s)
        except subprocess.TimeoutExpired:
            raise NotPlannable(
                f"the files could not be read within {self._settings.plan_timeout_s:g} s"
            ) from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        root = self._settings.scratch_dir
        root.mkdir(parents=True, exist_ok=True)
        _sweep(root)
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def _kept(self, what: str, sha256: str) -> Any:
        stored = self._redis.get(_key(what, sha256))
        return None if stored is None else json.loads(zlib.decompress(cast("bytes", stored)))

    def _keep(self, what: str, sha256: str, value: Any) -> None:
        packed = zlib.compress(json.dumps(value).encode())
        self._redis.set(_key(what, sha256), packed, ex=self._settings.plan_expiry_s)


def _plan_of(result: dict[str, Any]) -> Plan:
    try:
        return Plan.model_validate(result["plan"])
    except (KeyError, ValidationError):
        raise NotPlannable("the process that read the files did not say what is in them") from None


def _result(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise NotPlannable("the process that read the files did not say what is in them")
    return value


def _ended(code: int, timeout_s: float) -> str:
    if -code == signal.SIGXCPU:
        return f"the files could not be read within {timeout_s:g} s"
    if -code in (signal.SIGKILL, signal.SIGABRT):
        return "the process that read the files got no more memory"
    if -code == signal.SIGSYS:
        return "the process that read the files tried what it may not, and was ended"
    if code == _CANNOT_CONFINE:
        _log.error("no plans are made: there is no sandbox here; see docs/sandbox.md")
        return "files cannot be read safely here: the service has no sandbox"
    if code < 0:
        return f"the process that read the files was ended by {signal.Signals(-code).name}"
    return "the process that read the files failed, or got no more memory"


def _key(what: str, sha256: str) -> str:
    return f"fw:{what}:{_VERSION}:{sha256}"


def _sweep(root: Path) -> None:
    """Remove what processes that were killed left behind."""
    before = time.time() - _LEFT_BEHIND_S
    for entry in os.scandir(root):
        if entry.name.startswith(_PREFIX) and entry.is_dir(follow_symlinks=False):
            with suppress(FileNotFoundError):
                if entry.stat(follow_symlinks=False).st_mtime < before:
                    shutil.rmtree(entry.path, ignore_errors=True)


def _environment(home: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "TMPDIR": str(home),
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(_ROOT), str(_ROOT / "clients")]),
    }
