"""Plans and inspections for the service: the caller's bytes are fetched, and read in a process that may be
lost.

    service ──> Planner.plan ──fetch──> <scratch>/model.bin, data.bin
                     │ ──task.json──> tasks.plan_process (locked down) ──result.json──> Plan
                     └── outline and shapes kept in Redis by the file's sha256, inspections too

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
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import redis
from pydantic import BaseModel, ValidationError

from featherweight.inspection import Inspection
from featherweight.plan import Plan
from featherweight.spec import CompressionSpec
from tasks.compression.catalogue import digest
from tasks.file_reader import run_module
from tasks.records import DatasetRecord, ModelRecord
from tasks.settings import Settings
from tasks.storage import Storage

__all__ = ["NotPlannable", "Planner", "PlannerBusy"]

_log = logging.getLogger(__name__)
# Of tasks.plan_process, which is not imported here.
_CANNOT_CONFINE = 70
_AT_ONCE = 2
# A request that waits holds a thread of the service.
_PATIENCE_S = 2.0
_PREFIX = "plan-"
_LEFT_BEHIND_S = 3600.0
# Raised whenever what an outline holds changes: what was kept before is then not found any more.
_VERSION = 4
# What an inspection says depends on the catalogue too.
_INSPECTION = f"inspection:{digest()}"

M = TypeVar("M", bound=BaseModel)


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
        with self._turn() as scratch:
            return self._plan(scratch, model, dataset, spec)

    def inspect(self, model: ModelRecord) -> Inspection:
        """What is in the model and what can be done to it. Raises as `plan`."""
        kept = self._kept(_INSPECTION, model.sha256)
        if kept is not None:
            return Inspection.model_validate(kept)
        with self._turn() as scratch:
            task: dict[str, Any] = {"format": model.format, "framework": model.framework}
            self._model(scratch, model, task)
            result = self._run(scratch, task)
            self._keep_outline(model, task, result)
            made = _made_of(Inspection, result, "inspection")
            if made.totals is not None:  # What could not be read, another limit may allow.
                self._keep(_INSPECTION, model.sha256, made.model_dump(mode="json"))
            return made

    @contextmanager
    def _turn(self) -> Iterator[Path]:
        """A scratch folder, once there are not too many of them."""
        if not self._free.acquire(timeout=_PATIENCE_S):
            raise PlannerBusy
        try:
            with self._scratch() as scratch:
                yield scratch
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EAGAIN, errno.ENOMEM):
                raise PlannerBusy from error
            raise
        finally:
            self._free.release()

    def _plan(
        self, scratch: Path, model: ModelRecord, dataset: DatasetRecord | None, spec: CompressionSpec
    ) -> Plan:
        task: dict[str, Any] = {"spec": spec.model_dump(mode="json"), "has_dataset": dataset is not None}
        self._model(scratch, model, task)
        if dataset is not None:
            task |= self._data(scratch, dataset)
        result = self._run(scratch, task)
        self._keep_outline(model, task, result)
        if dataset is not None and task.get("shapes") is None and result.get("shapes") is not None:
            self._keep("shapes", dataset.sha256, result["shapes"])
        return _made_of(Plan, result, "plan")

    def _model(self, scratch: Path, model: ModelRecord, task: dict[str, Any]) -> None:
        """What was read of the model before, or else the file itself, for `task`."""
        task["outline"] = self._kept("outline", model.sha256)
        if task["outline"] is not None:
            return
        if model.bytes > self._settings.max_plan_bytes:
            raise NotPlannable(
                f"the model has {model.bytes} bytes; plans and inspections are made of models of up to "
                f"{self._settings.max_plan_bytes}"
            )
        self._storage.get_file(model.key, scratch / "model.bin")
        task["model"] = "model.bin"

    def _keep_outline(self, model: ModelRecord, task: dict[str, Any], result: dict[str, Any]) -> None:
        if task["outline"] is None and result.get("outline") is not None:
            self._keep("outline", model.sha256, result["outline"])

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
        with (scratch / "result.json").open("wb") as result, (scratch / "task.json").open("rb") as given:
            code = run_module(
                "tasks.plan_process",
                scratch,
                given=given,
                said=result,
                errors=subprocess.DEVNULL,
                within_s=settings.plan_timeout_s,
            )
        if code != 0:
            raise NotPlannable(_ended(code, settings.plan_timeout_s))
        return _result(scratch / "result.json")

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


def _made_of(type_: type[M], result: dict[str, Any], name: str) -> M:
    try:
        return type_.model_validate(result[name])
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


def _ended(code: int | None, timeout_s: float) -> str:
    if code is None or -code == signal.SIGXCPU:
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
