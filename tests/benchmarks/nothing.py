"""A job that does nothing but end well: what is left is what starting and ending a runner takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.misbehaving import Outcome, made

__all__ = ["compress"]


def compress(*_: Any, workdir: Path, **__: Any) -> Outcome:
    return made(workdir, nothing__json="{}")
