"""Told to stop, it takes the moment it is given to leave a mark."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from featherweight.events import LogEvent
from tasks.compression.stopping import Stop, Stopped
from tests.misbehaving import Outcome, made


def compress(*_: Any, workdir: Path, emit: Any, stop: Stop, **__: Any) -> Outcome:
    mark = workdir / "mark"
    if mark.exists():
        emit(LogEvent(message="marked"))
        return made(workdir, model__tflite="x")
    with stop.held():
        emit(LogEvent(message="first"))
        while not stop.requested:
            time.sleep(0.05)
        mark.touch()
        raise Stopped
