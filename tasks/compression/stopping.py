"""Being told to stop, where stopping a little later keeps what has been done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

__all__ = ["Never", "Stop", "Stopped"]


class Stopped(BaseException):
    """The job was told to stop and has kept how far it got.

    Not an Exception: nothing handles it on the way.
    """


class Stop(Protocol):
    """Whether somebody wants the job to stop.

    Outside of `held` whoever wants it ends the process without asking. Within, `requested` becomes true
    and there is a moment, of about two seconds, to keep what has been done and raise Stopped.
    """

    @property
    def requested(self) -> bool: ...

    def held(self) -> AbstractContextManager[None]: ...


class Never:
    """Nobody does."""

    requested = False

    @contextmanager
    def held(self) -> Iterator[None]:
        yield
