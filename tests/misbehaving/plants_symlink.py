"""Declares a link to a file of the machine as its output."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.misbehaving import Outcome, made


def compress(*_: Any, workdir: Path, **__: Any) -> Outcome:
    outcome = made(workdir, model__tflite="x")
    outcome.artifacts[0].unlink()
    with suppress(PermissionError):
        outcome.artifacts[0].symlink_to("/etc/passwd")
    return outcome
