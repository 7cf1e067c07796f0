"""Writes files without end: each small enough, told to in the model's bytes to be of no size at all."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any


def compress(model: Path, *_: Any, workdir: Path, **__: Any) -> None:
    content = b"" if b"empty" in model.read_bytes() else b"x" * 1_000_000
    for number in count():
        (workdir / f"file-{number}").write_bytes(content)
