"""Training batches out of arrays, shuffled anew each epoch and ready before they are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy.typing as npt

from tasks.compression.backends.tensorflow._framework import tf
from tasks.compression.backends.tensorflow.sample_rows import rows_of

__all__ = ["training_batches"]


def training_batches(
    x: Any,
    targets: tuple[Any, ...],
    indices: npt.NDArray[Any],
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    augment: Callable[[Any, Any], Any] | None = None,
    reconstruct: bool = False,
    start: tuple[int, int] = (0, 0),
) -> Any:
    """A tf.data pipeline of ``ceil(len(indices) / batch_size) * epochs`` batches of float32 (or integer,
    for integer inputs) samples and, of each array in `targets`, what belongs to them; the last batch of
    an epoch may be smaller. `x` and each of `targets` is an array or a tuple of arrays.

    `augment` changes the samples of a batch, given its number. With `reconstruct` the samples, as they
    are then, take the place of the first target. With `start` the epochs and the batches of the next one
    that were handed out before are left out, and the others are what they would have been.

    Whole batches are gathered by index: a tensor for each sample, as shuffle() and batch() handle them,
    costs more than a small network's training step.
    """
    count = len(indices)
    steps = math.ceil(count / batch_size)
    first_epoch, first_step = start
    samples, members = tf.nest.map_structure(rows_of, x), tf.constant(indices)
    tables = tf.nest.map_structure(rows_of, targets)

    def epoch_batches(epoch: Any) -> Any:
        order = tf.random.experimental.stateless_shuffle(members, seed=tf.stack([seed, epoch]))
        begin = tf.where(tf.equal(epoch, first_epoch), tf.constant(first_step, tf.int64), 0)
        return tf.data.Dataset.range(begin, steps).map(lambda step: part(order, step))

    def part(order: Any, step: Any) -> Any:
        return order[step * batch_size : tf.minimum((step + 1) * batch_size, count)]

    def gather(chosen: Any) -> tuple[Any, ...]:
        def rows(table: Any) -> Any:
            return table(chosen)

        return tf.nest.map_structure(rows, samples), *tf.nest.map_structure(rows, tables)

    def gather_changed(number: Any, chosen: Any) -> tuple[Any, ...]:
        inputs, *gathered = gather(chosen)
        inputs = inputs if augment is None else augment(inputs, number)
        if reconstruct:
            gathered[0] = tf.cast(inputs, gathered[0].dtype)
        return inputs, *gathered

    batches = tf.data.Dataset.range(first_epoch, epochs).flat_map(epoch_batches)
    if augment is None:
        return batches.map(gather, num_parallel_calls=2, deterministic=True).prefetch(4)
    numbered = batches.enumerate(start=first_epoch * steps + first_step)
    return numbered.map(gather_changed, num_parallel_calls=2, deterministic=True).prefetch(4)
