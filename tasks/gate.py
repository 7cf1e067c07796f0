"""The gate from outside: files are judged in a process that may be lost, before any loader sees them.

    service ──> Gate.admit ──fetch──> judge ──> tasks.gate_process (locked down) ──> Problem | None
    worker  ─────────────────────────> judge

What was judged is noted in the record with VERSION, so that the worker judges only what was not: files above
``max_gate_bytes``, and those that an older gate let in. A record's file cannot change without its sha256,
which the worker compares.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from featherweight.problem import CODES, FieldError, Problem, problem
from tasks.file_reader import run_module
from tasks.settings import Settings
from tasks.storage import Storage

__all__ = ["VERSION", "Gate", "GateBusy", "GateFailed", "GateRefused", "judge"]

# Raised whenever the gate learns to refuse something: what it let in before is judged again.
VERSION = 1

CONFINED = b"confined\n"
"""What the process says before it opens the first file."""

_log = logging.getLogger(__name__)
_VERDICT_BYTES = 64 << 10
_MEMORY_BYTES = 1 << 30
_DEADLINE_S = 20.0
# Large files take longer: so many more bytes a second.
_BYTES_PER_S = 64 << 20
_AT_ONCE = 4
# A request that waits holds a thread of the service.
_PATIENCE_S = 20.0
# Swept with the folders of plans when a process was killed over it.
_PREFIX = "plan-gate-"
_DAMAGED = {"model": "bad_model", "dataset": "bad_data"}


def _nothing() -> None:
    """Nobody minds."""


class GateRefused(Exception):
    """A file that no loader may see; `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.code)
        self.problem = problem


class GateBusy(Exception):
    """As many files as may be are being judged."""


class GateFailed(Exception):
    """There cannot be a confined process that judges, or not in time; no file was opened."""


class Gate:
    """Judges stored files, a few at a time. Safe to use from many threads."""

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._settings = settings
        self._storage = storage
        self._free = threading.BoundedSemaphore(_AT_ONCE)

    def admit(self, key: str, role: str, size: int) -> int | None:
        """VERSION for a file that loaders may see, None for one that is too large to be judged here.

        GateRefused, GateBusy, GateFailed, StorageUnavailable.
        """
        if size > self._settings.max_gate_bytes:
            return None
        if not self._free.acquire(timeout=_PATIENCE_S):
            raise GateBusy
        try:
            refused = self._judged(key, role)
        # Also a full disk, and an object that is gone.
        except OSError as error:
            raise GateFailed(str(error)) from error
        finally:
            self._free.release()
        if refused is not None:
            raise GateRefused(refused)
        return VERSION

    def _judged(self, key: str, role: str) -> Problem | None:
        root = self._settings.scratch_dir
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=root) as made:
            self._storage.get_file(key, Path(made) / role)
            return judge(self._settings, Path(made), {role: role})


def judge(
    settings: Settings,
    scratch: Path,
    files: Mapping[str, str],
    *,
    deadline_s: float | None = None,
    check: Callable[[], None] = _nothing,
) -> Problem | None:
    """What is wrong with `files` (paths below `scratch` by their roles, "model" and "dataset"); None for
    files that loaders may see.

    A process that dies over a file, or takes too long, has judged it too: bad_model, bad_data. GateFailed
    where there cannot be such a process: what ended before it was confined has opened no file. `check` is
    called a few times a second and may raise, to stop.
    """
    size = sum((scratch / name).stat().st_size for name in files.values())
    deadline_s = deadline_s or _DEADLINE_S + size / _BYTES_PER_S
    task = {
        "files": dict(files),
        "verdict_bytes": _VERDICT_BYTES,
        "sandbox": settings.sandbox,
        "confined": CONFINED.decode(),
        "runner_uid": settings.runner_uid,
        "memory_bytes": _MEMORY_BYTES + 2 * size,
        "cpu_s": int(deadline_s) + 1,
    }
    role = "model" if "model" in files else "dataset"
    with tempfile.TemporaryFile(dir=scratch) as verdict, tempfile.TemporaryFile(dir=scratch) as given:
        given.write(json.dumps(task).encode())
        given.seek(0)
        code, said = _run(scratch, given, verdict, deadline_s, check)
        verdict.seek(0)
        if verdict.readline(len(CONFINED)) != CONFINED:
            raise GateFailed(f"the process ended with {code}, unconfined: {said}")
        if code != 0:
            _log.warning("the gate's process ended with %s: %s", code, said)
            return _damaged(role, code, deadline_s)
        return _problem(verdict.read(_VERDICT_BYTES), role)


def _run(
    scratch: Path, given: Any, verdict: Any, deadline_s: float, check: Callable[[], None]
) -> tuple[int | None, str]:
    """(exit code, None when it took too long; the last it said)."""
    with tempfile.TemporaryFile(dir=scratch) as said:
        try:
            code = run_module(
                "tasks.gate_process",
                scratch,
                given=given,
                said=verdict,
                errors=said,
                within_s=deadline_s,
                check=check,
            )
        except OSError as error:
            raise GateFailed(str(error)) from error
        said.seek(0, os.SEEK_END)
        said.seek(max(0, said.tell() - 500))
        return code, said.read(500).decode("utf-8", "replace")


def _problem(text: bytes, role: str) -> Problem | None:
    try:
        said = json.loads(text)
        if said is None:
            return None
        fault = FieldError(pointer=said["pointer"] or f"/{role}", code=said["code"], detail=said["detail"])
        if said["code"] in CODES:
            return problem(
                said["code"],
                said["detail"],
                hint=said["hint"],
                layer=said["layer"],
                errors=[fault],
                stage="load",
            )
    except (ValueError, KeyError, TypeError):
        pass
    return _damaged(role, 1, 0)


def _damaged(role: str, code: int | None, deadline_s: float) -> Problem:
    if code is None or -code == signal.SIGXCPU:
        detail = f"the file could not be read within {deadline_s:.0f} s"
    else:
        detail = "the file cannot be read: what reads it failed over it, or got no more memory"
    fault = FieldError(pointer=f"/{role}", code=_DAMAGED[role], detail=detail)
    return problem(_DAMAGED[role], detail, hint="save and upload it again", errors=[fault], stage="load")
