"""A training that another attempt can go on with, to the same weights bit for bit.

What decides how a training goes on is in variables (weights, masks, thresholds, pruning steps, the
optimiser's slots and iterations, the metrics of the running epoch, the generators of layers that draw) and in
the few objects that remember something between epochs. Batches, their augmentation and the learning rate
follow from the step's seed and the place in the training, and need nothing kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tasks.compression.backends.tensorflow._framework import keras, tf
from tasks.compression.context import Context
from tasks.compression.resuming import Keeping, Remembers, State

__all__ = ["Checkpointing"]


class Checkpointing(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps checkpoints of the training of `trainee`, compiled and with all its variables made; the last of
    the callbacks, so that the others have seen the end of the epoch.

    `others` are variables beside those of the model and its optimiser; `memories` what else has a state.
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
        self._trainee = trainee
        self._epochs = epochs
        self._variables = _Variables(_variables(trainee, others))
        self._keeping = Keeping(
            context,
            [self._variables, *memories],
            self._variables.fits,
            epochs=epochs,
            per_epoch=per_epoch,
            clock=clock,
        )
        self._within_epoch = False
        self._epoch = 0

    def resume(self) -> tuple[int, int]:
        """Take up the newest checkpoint: how many epochs had ended, and the steps of the next one taken."""
        found = self._keeping.take_up()
        if found is None:
            return 0, 0
        epoch, step, ended = found
        self._within_epoch = step > 0
        self._trainee._training_state = _Place(self._epochs if ended else epoch, step)
        return epoch, step

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        # Keras has just reset the metrics, which are those of an epoch half done.
        if self._within_epoch:
            self._variables.resume_again()
        self._epoch = epoch
        self._within_epoch = False
        self._trainee._training_state = None

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        self._keeping.step_ended(self._epoch, batch + 1)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._keeping.epoch_ended(epoch + 1, early=bool(self.model.stop_training))


class _Variables:
    """The state of variables, which stay the same."""

    def __init__(self, variables: Sequence[Any]) -> None:
        self._variables = variables
        self._taken_up: State | None = None

    def fits(self, state: State) -> bool:
        """Whether it is of a training such as this one; a key is a promise, and this is a look."""
        return len(state.arrays) == len(self._variables) and all(
            array.shape == tuple(variable.shape) and array.itemsize == variable.dtype.size
            for array, variable in zip(state.arrays, self._variables, strict=True)
        )

    def state(self) -> State:
        return State({}, [variable.numpy() for variable in self._variables])

    def resume(self, state: State) -> None:
        self._taken_up = state
        for variable, array in zip(self._variables, state.arrays, strict=True):
            # The view: NumPy's files know no bfloat16, and give its bytes back without their type.
            variable.assign(np.asarray(array).view(variable.dtype.as_numpy_dtype))

    def resume_again(self) -> None:
        if self._taken_up is not None:
            self.resume(self._taken_up)


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
