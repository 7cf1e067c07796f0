"""Says thousands of things, some of them nonsense, one of them a lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from featherweight.events import LogEvent, StateEvent
from tests.misbehaving import Outcome, made


def compress(*_: Any, workdir: Path, emit: Any, **__: Any) -> Outcome:
    emit(StateEvent(state="succeeded", attempt=99))
    os.write(3, b"no json\n" + b"x" * 100_000 + b"\n" + b'{"type": "unheard of"}\n')
    for number in range(3000):
        emit(LogEvent(message=f"number {number}"))
    return made(workdir, model__tflite="x")
