"""A network as one TensorFlow function: what every converter and export takes."""

from __future__ import annotations

from typing import Any

from tasks.compression.backends.tensorflow._framework import tf
from tasks.compression.samples import signature_names

__all__ = ["served"]


def served(model: Any, batch: int | None = None) -> Any:
    """A module whose function ``serve`` answers as the model does when it is not trained.

    Inputs go by `signature_names`, outputs by the model's names; the batch is `batch` or, where the model
    has none of its own, any.
    """
    names = signature_names(model.input_names)
    specs = [
        tf.TensorSpec([batch or tensor.shape[0], *tensor.shape[1:]], tensor.dtype, name=name)
        for name, tensor in zip(names, model.inputs, strict=True)
    ]

    def serve(*inputs: Any) -> dict[str, Any]:
        outputs = tf.nest.flatten(model(inputs[0] if len(inputs) == 1 else list(inputs), training=False))
        return dict(zip(model.output_names, outputs, strict=True))

    module = tf.Module()
    module.variables_used = model.variables
    module.serve = tf.function(serve, input_signature=specs, autograph=False)
    return module
