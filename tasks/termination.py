"""SIGTERM to a runner: the end at once, or in the middle of a training a moment to keep how far it got."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

__all__ = ["Termination", "end_by_sigterm"]


class Termination:
    """A `tasks.compression.stopping.Stop`. `held` is for the main thread only."""

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def held(self) -> Iterator[None]:
        before = signal.signal(signal.SIGTERM, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
        if self.requested:
            end_by_sigterm()  # it came after whoever held it had looked the last time

    def _note(self, *_: object) -> None:
        self.requested = True


def end_by_sigterm() -> NoReturn:
    """As the signal would have ended the process, had it not been held."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
    raise SystemExit(128 + signal.SIGTERM)  # not reached: the signal is delivered before kill() returns
