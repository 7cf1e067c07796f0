"""Declares as its output a file that is large and holds nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.misbehaving import Outcome, made


def compress(*_: Any, workdir: Path, **__: Any) -> Outcome:
    outcome = made(workdir, model__tflite="x")
    os.truncate(outcome.artifacts[0], 1 << 30)
    return outcome
