"""Writes a file without end, and passes on what it is told about that."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def compress(*_: Any, workdir: Path, **__: Any) -> None:
    with (workdir / "huge").open("wb") as file:
        while True:
            file.write(b"x" * 1_000_000)
