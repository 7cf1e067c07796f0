"""What a Keras model answers."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.compression.backends.tensorflow._framework import tf
from tasks.compression.samples import Array, Tensors, arrays_of, gathered, structure

__all__ = ["predict"]

MAX_BATCH = 1024
BATCH_VALUES = 1 << 20


def predict(model: Any, x: Tensors) -> Tensors:
    """Outputs for samples `x` (axis 0) as float32, without tracing: a small network has answered a whole
    test split before Keras' predict() has built its function."""
    batch = _batch_size(x)
    answers = [_answers(model, x[start : start + batch]) for start in range(0, len(x), batch)]
    outputs = [np.concatenate(output) for output in zip(*answers, strict=True)]
    # A Sequential of Keras 3 has one output and no name for it.
    return gathered(getattr(model, "output_names", ("",)), outputs)


def _answers(model: Any, x: Tensors) -> list[Array]:
    # Keras hands out lists and mappings as the model was made with; flat, they are in its outputs' order.
    outputs = tf.nest.flatten(model(structure(x), training=False))
    return [np.asarray(output, dtype=np.float32) for output in outputs]


def _batch_size(x: Tensors) -> int:
    """As many samples as make a million values, so that the layers' outputs stay small too; 1 to 1,024."""
    values = sum(array[:1].size for array in arrays_of(x))
    return max(1, min(MAX_BATCH, BATCH_VALUES // max(1, values)))
