"""Rows of an array for a tf.data pipeline: out of a tensor, or from the disk that an array is mapped from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.compression.backends.tensorflow._framework import tf

__all__ = ["rows_of"]


def rows_of(array: npt.NDArray[Any]) -> Callable[[Any], Any]:
    """What gives the rows (axis 0) of `array` by their indices, a tensor. An array that is mapped into memory
    is not copied there: rows are read as they are asked for."""
    if not isinstance(array, np.memmap):
        table = tf.constant(array)
        return lambda chosen: tf.gather(table, chosen)

    def read(chosen: Any) -> Any:
        rows = tf.numpy_function(lambda indices: np.asarray(array[indices]), [chosen], array.dtype)
        return tf.ensure_shape(rows, (None, *array.shape[1:]))

    return read
