"""Prints without end."""

from __future__ import annotations

from typing import Any


def compress(*_: Any, **__: Any) -> None:
    while True:
        print("all work and no play " * 50)
