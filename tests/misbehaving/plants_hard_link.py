"""Declares an output that is a file of the machine by another name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.misbehaving import Outcome, made


def compress(model: Path, *_: Any, workdir: Path, **__: Any) -> Outcome:
    outcome = made(workdir, model__tflite="x")
    outcome.artifacts[0].unlink()
    os.link(model, outcome.artifacts[0])
    return outcome
