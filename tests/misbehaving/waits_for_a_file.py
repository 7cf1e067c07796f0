"""Waits until its working folder holds a file named go, then ends well."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from featherweight.events import LogEvent
from tests.misbehaving import Outcome, made


def compress(*_: Any, workdir: Path, emit: Any, **__: Any) -> Outcome:
    emit(LogEvent(message=f"pid {os.getpid()}"))
    while not (workdir / "go").exists():
        time.sleep(0.05)
    return made(workdir, model__tflite="stale")
