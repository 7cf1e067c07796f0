"""Declares a named pipe as its output."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.misbehaving import Outcome, made


def compress(*_: Any, workdir: Path, **__: Any) -> Outcome:
    outcome = made(workdir, model__tflite="x")
    outcome.artifacts[0].unlink()
    with suppress(PermissionError):
        os.mkfifo(outcome.artifacts[0])
    return outcome
