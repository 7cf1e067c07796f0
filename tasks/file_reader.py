"""A process that reads a caller's files for us, and may be lost over them.

It gets nothing of our environment, and confines itself before it opens a file of a caller's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

__all__ = ["run_module"]

_ROOT = Path(__file__).parents[1]
_TICK_S = 0.2


def _nothing() -> None:
    """Nobody minds."""


def run_module(
    name: str,
    scratch: Path,
    *,
    given: IO[bytes],
    said: IO[bytes],
    errors: IO[bytes] | int,
    within_s: float,
    check: Callable[[], None] = _nothing,
) -> int | None:
    """The exit code of ``python -m name scratch OUR_PID``, or the negative number of the signal that ended
    it; None when it took longer than `within_s`. Nothing that it started outlives it. OSError.

    `check` is called a few times a second and may raise, to end it.
    """
    process = subprocess.Popen(  # noqa: S603 - nothing in it comes from a caller
        [sys.executable, "-P", "-m", name, str(scratch), str(os.getpid())],
        stdin=given,
        stdout=said,
        stderr=errors,
        env=_environment(scratch),
        cwd=scratch,
        # A session of its own, so that whatever it starts can be killed with it.
        start_new_session=True,
    )
    try:
        return _wait(process, within_s, check)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(process: subprocess.Popen[bytes], within_s: float, check: Callable[[], None]) -> int | None:
    deadline = time.monotonic() + within_s
    while (left := deadline - time.monotonic()) > 0:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(min(left, _TICK_S))
        check()
    return None


def _environment(home: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "TMPDIR": str(home),
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(_ROOT), str(_ROOT / "clients")]),
    }
