"""The ``.tflite`` of a trained simulation, and the type every layer's weights have in it."""

from __future__ import annotations

from typing import Any

from featherweight.spec import QuantizeAware
from tasks.compression.backends.tensorflow._framework import lite, tf
from tasks.compression.backends.tensorflow.convert import to_tflite
from tasks.compression.backends.tensorflow.qat.simulation import PREFIX, Simulation
from tasks.compression.backends.tensorflow.tracing import trace

__all__ = ["converted", "stored_types"]


def converted(simulation: Simulation, step: QuantizeAware) -> bytes:
    """The integers that the fake quantisation stands for. CompressionError conversion_failed."""

    def configure(converter: Any) -> None:
        converter.optimizations = [lite.Optimize.DEFAULT]
        if step.io_dtype == "int8":
            converter.inference_input_type = converter.inference_output_type = tf.int8

    content: bytes = to_tflite(simulation.model, configure)
    return content


def stored_types(simulation: Simulation, content: bytes) -> dict[str, str]:
    """Of the weights of every layer of the network, by its path, as the file has them."""
    types: dict[str, set[str]] = {}
    for item in trace(simulation.model, content):
        if item.layer is None or item.operation.weights is None:
            continue
        path = simulation.paths.get(item.layer.removeprefix(PREFIX), item.layer)
        types.setdefault(path, set()).add(item.operation.weights.dtype)
    return {path: "+".join(sorted(found)) for path, found in types.items()}
