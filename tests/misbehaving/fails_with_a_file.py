"""Fails, and has a file to give all the same; told to, it names one that is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.compression.errors import CompressionError
from tests.misbehaving import made


def compress(model: Path, *_: Any, workdir: Path, **__: Any) -> None:
    error = CompressionError("training_diverged", "the loss became NaN")
    error.artifacts = made(workdir, checkpoint__keras=model.read_text()).artifacts
    if "missing" in model.read_text():
        error.artifacts[0].unlink()
    raise error
