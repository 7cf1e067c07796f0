"""Calls that may hang, left to themselves when nobody wants their answer any more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

__all__ = ["interruptible"]

_T = TypeVar("_T")
_TICK_S = 0.2


def _nothing() -> None:
    """There is nothing to clear away."""


def interruptible(
    action: Callable[[], _T], check: Callable[[], None], *, when_late: Callable[[], None] = _nothing
) -> _T:
    """The answer of `action`, which runs in a thread of its own.

    `check` is called a few times a second. What it raises is raised here at once, and `action` goes on alone:
    a socket that hangs holds nobody up. `when_late` is called after such an action has ended, however it did.
    """
    call = _Call(action, when_late)
    threading.Thread(target=call.run, name="interruptible", daemon=True).start()
    while not call.over.wait(_TICK_S):
        try:
            check()
        except BaseException:
            if call.abandon():
                raise
    return call.answer()


class _Call(Generic[_T]):
    def __init__(self, action: Callable[[], _T], when_late: Callable[[], None]) -> None:
        self._action = action
        self._when_late = when_late
        self._answers: list[_T] = []
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._abandoned = False
        self.over = threading.Event()

    def run(self) -> None:
        try:
            self._answers.append(self._action())
        except BaseException as error:  # noqa: BLE001 - raised where the answer is waited for
            self._error = error
        with self._lock:
            self.over.set()
            late = self._abandoned
        if late:
            with suppress(Exception):
                self._when_late()

    def abandon(self) -> bool:
        """False when it is over already."""
        with self._lock:
            self._abandoned = not self.over.is_set()
            return self._abandoned

    def answer(self) -> _T:
        if self._error is not None:
            raise self._error
        return self._answers[0]
