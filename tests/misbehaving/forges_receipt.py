"""Declares a receipt of its own beside its output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.misbehaving import Outcome, made


def compress(*_: Any, workdir: Path, **__: Any) -> Outcome:
    return made(workdir, model__tflite="x", receipt__json="{}")
