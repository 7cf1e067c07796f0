"""A training that another attempt can go on with, to the same weights bit for bit.

What decides how a training goes on is in variables (weights, masks, thresholds, pruning steps, the
optimiser's slots and iterations, the metrics of the running epoch, the generators of layers that draw) and in
the few objects that remember something between epochs. Batches, their augmentation and the learning rate
follow from the step's seed and the place in the training, and need nothing kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tasks.compression.backends.tensorflow._framework import keras, tf
from tasks.compression.checkpoints import Checkpoint
from tasks.compression.context import Context
from tasks.compression.stopping import Stopped

__all__ = ["AT_EPOCH_END_S", "COST_SHARE", "WITHIN_EPOCH_S", "Checkpointing", "Remembers", "State"]

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
    """Has a state between two steps of a training beside variables."""

    def state(self) -> State: ...

    def resume(self, state: State) -> None: ...


class Checkpointing(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps checkpoints of the training of `trainee`, compiled and with all its variables made; the last of
    the callbacks, so that the others have seen the end of the epoch.

    `others` are variables beside those of the model and its optimiser; `memories` what else has a state. A
    checkpoint that cannot be written is warned of, once, and ends nothing.
    """

    def __init__(
        self,
        context: Context,
        trainee: Any,
        epochs: int,
        per_epoch: int,
        *,
        others: Iterable[Any] = (),
        memories: Sequence[Remembers] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._context = context
        self._trainee = trainee
        self._epochs = epochs
        self._per_epoch = per_epoch
        self._variables = _variables(trainee, others)
        self._memories = list(memories)
        self._clock = clock
        self._kept_at = clock()
        self._cost_s = 0.0
        self._failed = False
        self._taken_up: Checkpoint | None = None
        self._epoch = 0
        self._ended = False

    def resume(self) -> tuple[int, int]:
        """Take up the newest checkpoint: how many epochs had ended, and the steps of the next one taken."""
        found = self._context.checkpoints.newest()
        if found is None or not self._fits(found):
            return 0, 0
        self._taken_up = found
        self._assign(found)
        arrays = list(found.arrays[len(self._variables) :])
        for memory, part in zip(self._memories, found.state["memories"], strict=True):
            memory.resume(State(part["told"], arrays[: part["arrays"]]))
            del arrays[: part["arrays"]]
        ended = found.state["ended"]
        self._trainee._training_state = _Place(self._epochs if ended else found.epoch, found.step)
        self._tell(found)
        return found.epoch, found.step

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        # Keras has just reset the metrics, which are those of an epoch half done.
        if self._taken_up is not None and self._taken_up.step:
            self._assign(self._taken_up)
        self._epoch = epoch
        self._taken_up = None
        self._trainee._training_state = None

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        taken = batch + 1
        if taken < self._per_epoch:  # otherwise the epoch's end follows
            self._keep_if_due(self._epoch, taken, WITHIN_EPOCH_S)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._ended = self.model.stop_training or epoch + 1 == self._epochs
        self._keep_if_due(epoch + 1, 0, None if self._ended else AT_EPOCH_END_S)

    def _keep_if_due(self, epoch: int, step: int, interval_s: float | None) -> None:
        """None: only when told to stop. Stopped."""
        stop = self._context.stop.requested
        since = self._clock() - self._kept_at
        due = interval_s is not None and since >= max(interval_s, self._cost_s / COST_SHARE)
        if stop or (due and not self._failed):
            self._keep(epoch, step)
        if stop:
            raise Stopped

    def _keep(self, epoch: int, step: int) -> None:
        began = self._clock()
        parts = [memory.state() for memory in self._memories]
        memories = [{"told": part.told, "arrays": len(part.arrays)} for part in parts]
        state = {"ended": self._ended, "memories": memories}
        arrays = [variable.numpy() for variable in self._variables]
        arrays += [array for part in parts for array in part.arrays]
        try:
            self._context.checkpoints.keep(Checkpoint(epoch, step, state, arrays))
        except OSError as error:
            self._failed = True
            self._context.warn("checkpoint_not_kept", why=error.strerror or type(error).__name__)
        self._kept_at = self._clock()
        self._cost_s = self._kept_at - began

    def _fits(self, found: Checkpoint) -> bool:
        """Whether it is of a training such as this one; a key is a promise, and this is a look."""
        parts = found.state["memories"]
        count = len(self._variables) + sum(part["arrays"] for part in parts)
        return (
            len(parts) == len(self._memories)
            and len(found.arrays) == count
            and all(
                array.shape == tuple(variable.shape) and array.itemsize == variable.dtype.size
                for array, variable in zip(found.arrays, self._variables, strict=False)
            )
        )

    def _assign(self, found: Checkpoint) -> None:
        for variable, array in zip(self._variables, found.arrays, strict=False):
            # The view: NumPy's files know no bfloat16, and give its bytes back without their type.
            variable.assign(np.asarray(array).view(variable.dtype.as_numpy_dtype))

    def _tell(self, found: Checkpoint) -> None:
        steps = found.epoch * self._per_epoch + found.step
        self._context.record.details.update(resumed_from_epoch=found.epoch, resumed_from_step=steps)
        self._context.progress.resume(steps)
        self._context.progress.resumed(self._context.index, found.epoch, self._context.rounds_ended)
        self._context.progress.log(f"goes on after epoch {found.epoch}, step {steps}, of an earlier attempt")


class _Place:
    """Where Keras' fit() begins: it asks what recovers workers, under this name."""

    def __init__(self, epoch: int, step: int) -> None:
        self._place = epoch, step

    def maybe_load_initial_counters_from_ckpt(self, *_: Any, **__: Any) -> tuple[int, int]:
        return self._place


def _variables(trainee: Any, others: Iterable[Any]) -> list[Any]:
    """Every variable that training can change, once, in an order that the same training repeats."""
    parts = tf.train.TrackableView(trainee).descendants()
    found = [part for part in parts if isinstance(part, tf.Variable)]
    found += trainee.optimizer.variables()
    found += [variable for metric in trainee.metrics for variable in metric.variables]
    found += others
    return list({id(variable): variable for variable in found}.values())
