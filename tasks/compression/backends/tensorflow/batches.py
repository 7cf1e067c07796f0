"""Training batches out of arrays in memory, shuffled anew each epoch and ready before they are asked for."""

from __future__ import annotations

import math
from typing import Any

import numpy.typing as npt

from tasks.compression.backends.tensorflow._framework import tf

__all__ = ["training_batches"]


def training_batches(
    x: npt.NDArray[Any],
    y: npt.NDArray[Any],
    indices: npt.NDArray[Any],
    *,
    batch_size: int,
    epochs: int,
    seed: int,
) -> Any:
    """A tf.data pipeline of ``ceil(len(indices) / batch_size) * epochs`` batches of float32 (or integer,
    for integer inputs) samples and labels; the last batch of an epoch may be smaller.

    Whole batches are gathered by index: a tensor for each sample, as shuffle() and batch() handle them,
    costs more than a small network's training step.
    """
    count = len(indices)
    steps = math.ceil(count / batch_size)
    samples, labels, members = tf.constant(x), tf.constant(y), tf.constant(indices)

    def epoch_batches(epoch: Any) -> Any:
        order = tf.random.experimental.stateless_shuffle(members, seed=tf.stack([seed, epoch]))
        return tf.data.Dataset.range(steps).map(lambda step: part(order, step))

    def part(order: Any, step: Any) -> Any:
        return order[step * batch_size : tf.minimum((step + 1) * batch_size, count)]

    def gather(chosen: Any) -> tuple[Any, Any]:
        return tf.gather(samples, chosen), tf.gather(labels, chosen)

    batches = tf.data.Dataset.range(epochs).flat_map(epoch_batches)
    return batches.map(gather, num_parallel_calls=2, deterministic=True).prefetch(4)
