"""Declares as its output a file larger than a model may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.misbehaving import Outcome, made


def compress(*_: Any, workdir: Path, **__: Any) -> Outcome:
    return made(workdir, model__tflite="x" * 3_000_000)
