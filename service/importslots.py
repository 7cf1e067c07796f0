"""How many files are fetched at once: slow hosts take up neither all threads nor other projects' turns."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["ImportSlots", "NoSlot"]


class NoSlot(Exception):
    """As many as may be are being fetched."""


class ImportSlots:
    """Of one process: `at_once` altogether, `for_each` project."""

    def __init__(self, at_once: int = 8, for_each: int = 2) -> None:
        self._at_once = at_once
        self._for_each = for_each
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def taken(self, project: str) -> Iterator[None]:
        """One of them, as long as the block runs; NoSlot."""
        with self._lock:
            if self._taken.total() >= self._at_once or self._taken[project] >= self._for_each:
                raise NoSlot
            self._taken[project] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[project] -= 1
