"""Kernels as matrices whose rows share values: one row in all, or one for each output channel."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.compression.backends.tensorflow._framework import tf
from tasks.compression.backends.tensorflow.layers import kernels
from tasks.compression.backends.tensorflow.rules import TRANSPOSED
from tasks.compression.pending import Sharing

__all__ = ["distinct_values", "from_rows", "rows"]


def rows(values: Any, layer: Any, sharing: Sharing) -> Any:
    """`values` in the shape of a kernel of `layer`, as a matrix [rows, weights that share values]."""
    if not sharing.per_channel:
        return tf.reshape(values, [1, -1])
    order = _channels_first(values, layer)
    return tf.reshape(tf.transpose(values, order), [values.shape[order[0]], -1])


def from_rows(matrix: Any, like: Any, layer: Any, sharing: Sharing) -> Any:
    """The matrix of `rows` in the shape of the kernel `like` again."""
    if not sharing.per_channel:
        return tf.reshape(matrix, like.shape)
    order = _channels_first(like, layer)
    shape = [like.shape[axis] for axis in order]
    return tf.transpose(tf.reshape(matrix, shape), np.argsort(order))


def distinct_values(layer: Any) -> int:
    """The most distinct values, zero among them, that a kernel of `layer` has; 0 for one without kernels."""
    return max((len(np.unique(kernel.numpy())) for kernel in kernels(layer)), default=0)


def _channels_first(kernel: Any, layer: Any) -> list[int]:
    axes = list(range(len(kernel.shape)))
    channel = axes[-2] if isinstance(layer, TRANSPOSED) else axes[-1]
    return [channel, *(axis for axis in axes if axis != channel)]
