"""Is large before any job begins, as a framework is."""

from __future__ import annotations

from typing import Any

from tests.misbehaving.behaves import compress

__all__ = ["compress", "warm"]

_imported: list[Any] = []


def warm() -> None:
    _imported.append(b"x" * 400_000_000)
