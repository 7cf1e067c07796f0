"""When a training keeps a checkpoint, and how one is taken up: the same for every framework.

What a training remembers is in its memories, each with a state of arrays and a JSON value: the weights and
what belongs to the optimiser, which the framework knows, and what watches the epochs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy.typing as npt

from tasks.compression.checkpoints import Checkpoint
from tasks.compression.context import Context
from tasks.compression.stopping import Stopped

__all__ = ["AT_EPOCH_END_S", "COST_SHARE", "WITHIN_EPOCH_S", "Keeping", "Remembers", "State"]

AT_EPOCH_END_S = 1.0
"""An epoch ends with a checkpoint when that much was trained since the last one."""
WITHIN_EPOCH_S = 60.0
"""A long epoch has checkpoints as well, that far apart."""
COST_SHARE = 0.02
"""Checkpoints are further apart where they would take a larger share of the time."""

Array = npt.NDArray[Any]


class State(NamedTuple):
    """`told` is a JSON value."""

    told: Mapping[str, Any]
    arrays: Sequence[Array]


class Remembers(Protocol):
    """Has a state between two steps of a training."""

    def state(self) -> State: ...

    def resume(self, state: State) -> None: ...


class Keeping:
    """Keeps checkpoints of a training of `epochs` epochs of `per_epoch` steps, whose `memories` are always
    the same. `fits` says whether a state found is one of the first memory's.

    A checkpoint that cannot be written is warned of, once, and ends nothing.
    """

    def __init__(
        self,
        context: Context,
        memories: Sequence[Remembers],
        fits: Callable[[State], bool],
        *,
        epochs: int,
        per_epoch: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._context = context
        self._memories = list(memories)
        self._fits = fits
        self._epochs = epochs
        self._per_epoch = per_epoch
        self._clock = clock
        self._kept_at = clock()
        self._cost_s = 0.0
        self._failed = False
        self._ended = False

    def take_up(self) -> tuple[int, int, bool] | None:
        """Resume every memory from the newest checkpoint: how many epochs had ended, the steps of the next
        one taken, and whether the training was over. None where there is none of this training."""
        found = self._context.checkpoints.newest()
        states = None if found is None else _divided(found)
        if found is None or states is None or len(states) != len(self._memories):
            return None
        if not self._fits(states[0]):
            return None
        for memory, state in zip(self._memories, states, strict=True):
            memory.resume(state)
        self._tell(found)
        return found.epoch, found.step, bool(found.state["ended"])

    def step_ended(self, epoch: int, taken: int) -> None:
        """`taken` steps were taken after `epoch` epochs; an epoch's last is followed by `epoch_ended`, and
        keeps nothing. Stopped."""
        if taken < self._per_epoch:
            self._keep_if_due(epoch, taken, WITHIN_EPOCH_S)

    def epoch_ended(self, epochs: int, *, early: bool) -> None:
        """`epochs` have ended, and with `early` no other follows. Stopped."""
        self._ended = early or epochs == self._epochs
        self._keep_if_due(epochs, 0, None if self._ended else AT_EPOCH_END_S)

    def _keep_if_due(self, epoch: int, step: int, interval_s: float | None) -> None:
        """None: only when told to stop."""
        stop = self._context.stop.requested
        since = self._clock() - self._kept_at
        due = interval_s is not None and since >= max(interval_s, self._cost_s / COST_SHARE)
        if stop or (due and not self._failed):
            self._keep(epoch, step)
        if stop:
            raise Stopped

    def _keep(self, epoch: int, step: int) -> None:
        began = self._clock()
        states = [memory.state() for memory in self._memories]
        told = {
            "ended": self._ended,
            "memories": [{"told": state.told, "arrays": len(state.arrays)} for state in states],
        }
        arrays = [array for state in states for array in state.arrays]
        try:
            self._context.checkpoints.keep(Checkpoint(epoch, step, told, arrays))
        except OSError as error:
            self._failed = True
            self._context.warn("checkpoint_not_kept", why=error.strerror or type(error).__name__)
        self._kept_at = self._clock()
        self._cost_s = self._kept_at - began

    def _tell(self, found: Checkpoint) -> None:
        steps = found.epoch * self._per_epoch + found.step
        self._context.record.details.update(resumed_from_epoch=found.epoch, resumed_from_step=steps)
        self._context.progress.resume(steps)
        self._context.progress.resumed(self._context.index, found.epoch, self._context.rounds_ended)
        self._context.progress.log(f"goes on after epoch {found.epoch}, step {steps}, of an earlier attempt")


def _divided(found: Checkpoint) -> list[State] | None:
    """The state of each memory; None where the arrays are not as many as those say."""
    parts, arrays = found.state["memories"], list(found.arrays)
    if sum(part["arrays"] for part in parts) != len(arrays):
        return None
    states = []
    for part in parts:
        states.append(State(part["told"], arrays[: part["arrays"]]))
        del arrays[: part["arrays"]]
    return states
