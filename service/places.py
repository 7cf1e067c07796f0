"""Places, of which there are so many, and who has one."""

from __future__ import annotations

import threading

__all__ = ["Places", "Seat"]


class Places:
    """So many at once. Safe to use from many threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._lock = threading.Lock()

    def take(self, *, whatever: bool = False) -> bool:
        """Whether there was one. With `whatever` one is made."""
        with self._lock:
            if self._taken >= self._most and not whatever:
                return False
            self._taken += 1
            return True

    def give_back(self) -> None:
        with self._lock:
            self._taken -= 1


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
        """After waiting: whoever was let in once is not turned away."""
        self._taken = self._places.take(whatever=True)
