"""What the rounds of a step that trains in rounds have come to, kept so that another attempt goes on after
the last one that ended. They lie among the finished steps, under a key of the step's and the round's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from tasks.compression.checkpoints import Checkpoints, NoCheckpoints
from tasks.compression.workspace import StepRecord, Workspace, chain

__all__ = ["KeptRound", "NoRounds", "RoundResults", "Rounds"]


class KeptRound(NamedTuple):
    """The round `number`, from 1, and all before it have ended; `directory` has what `keep` saved."""

    number: int
    directory: Path
    record: StepRecord


class Rounds(Protocol):
    """Those of one step of a spec."""

    def newest(self, count: int) -> KeptRound | None:
        """The last of `count` rounds that has been kept."""

    def keep(self, number: int, record: StepRecord, save: Callable[[Path], None]) -> None:
        """Keep the round `number` in the place of those before. OSError."""

    def checkpoints(self, number: int) -> Checkpoints:
        """Those of the training in the round `number`, after the cut that the rounds before it led to."""

    def discard(self) -> None:
        """The step has ended: none is needed any more."""


class NoRounds:
    """For steps that nobody goes on with."""

    def newest(self, count: int) -> KeptRound | None:
        return None

    def keep(self, number: int, record: StepRecord, save: Callable[[Path], None]) -> None:
        pass

    def checkpoints(self, number: int) -> Checkpoints:
        return NoCheckpoints()

    def discard(self) -> None:
        pass


class RoundResults:
    """In a workspace, of the step that is making the result `key`."""

    def __init__(self, workspace: Workspace, key: str) -> None:
        self._workspace = workspace
        self._key = key
        self._last = 0

    def newest(self, count: int) -> KeptRound | None:
        for number in range(count, 0, -1):
            found = self._workspace.find(self._of(number))
            if found is not None:
                self._forget(number - 1)
                self._last = number
                return KeptRound(number, *found)
        return None

    def keep(self, number: int, record: StepRecord, save: Callable[[Path], None]) -> None:
        self._workspace.keep(self._of(number), record, save)
        self.checkpoints(number).discard()
        self._forget(number - 1)
        self._last = number

    def checkpoints(self, number: int) -> Checkpoints:
        self._last = max(self._last, number)
        return self._workspace.checkpoints(self._of(number))

    def discard(self) -> None:
        self._forget(self._last)

    def _forget(self, last: int) -> None:
        """The rounds up to `last`."""
        for number in range(1, last + 1):
            self._workspace.checkpoints(self._of(number)).discard()
            self._workspace.forget(self._of(number))

    def _of(self, number: int) -> str:
        return chain(self._key, round=number)
