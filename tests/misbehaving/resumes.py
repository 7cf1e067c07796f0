"""Leaves a mark in its working folder and says whether it found one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from featherweight.events import LogEvent
from tests.misbehaving import Outcome, made


def compress(*_: Any, workdir: Path, emit: Any, **__: Any) -> Outcome:
    mark = workdir / "mark"
    if not mark.exists():
        mark.touch()
        emit(LogEvent(message="first"))
        time.sleep(3600)
    emit(LogEvent(message="again"))
    return made(workdir, model__tflite="x")
