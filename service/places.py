"""Places, of which there are so many, and who has one."""

from __future__ import annotations

import threading

__all__ = ["Places", "Seat"]


class Places:
    """So many at once; whoever comes then waits a moment for one. Safe to use from many threads."""

    def __init__(self, most: int, *, moment_s: float = 2.0) -> None:
        self._free = threading.Semaphore(most)
        self._moment_s = moment_s

    def take(self, *, at_once: bool = False) -> bool:
        """Whether there was one."""
        return self._free.acquire(timeout=0 if at_once else self._moment_s)

    def give_back(self) -> None:
        self._free.release()


class Seat:
    """The place of one request among those that work, which it leaves while it waits."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._taken = False

    def take(self) -> bool:
        self._taken = self._places.take()
        return self._taken

    def leave(self) -> None:
        if self._taken:
            self._taken = False
            self._places.give_back()

    def come_back(self) -> None:
        """After waiting: whoever was let in once is not turned away, place or no place."""
        self._taken = self._places.take(at_once=True)
