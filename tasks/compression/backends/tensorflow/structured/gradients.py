"""Gradients of a Keras model's loss by its variables, batch by batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.compression.errors import CompressionError
from tasks.compression.structured.framework import Gradients, Loss

__all__ = ["gradients"]


def gradients(model: Any, variables: list[Any], loss: Loss | None) -> Gradients:
    """`loss` left out is the compiled model's; CompressionError loss_not_inferable if it has none."""
    from tasks.compression.backends.tensorflow._framework import keras, tf

    if loss is None and getattr(model, "compiled_loss", None) is None:
        raise CompressionError(
            "loss_not_inferable",
            "the criterion taylor needs a loss, and the model is not compiled with one",
            hint="Name the loss.",
        )
    measure = model.compiled_loss if loss is None else keras.losses.get(loss)

    @tf.function(reduce_retracing=True, autograph=False)  # type: ignore[untyped-decorator]
    def step(x: Any, y: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            value = tf.reduce_mean(measure(y, model(x, training=False)))
        return tape.gradient(value, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    return lambda x, y: [np.asarray(gradient) for gradient in step(x, y)]
