"""Post-training quantisation by TensorFlow's converter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from featherweight.spec import Quantize
from tasks.compression.backends.tensorflow._framework import lite, tf
from tasks.compression.backends.tensorflow.convert import to_tflite
from tasks.compression.backends.tensorflow.layers import placed_layers
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.context import Context
from tasks.compression.data import Data
from tasks.compression.errors import CompressionError

__all__ = ["check", "quantize"]

# Their loops crash the converter's calibrator; an LSTM has a fused kernel of its own.
_LOOPS = ("GRU", "RNN", "SimpleRNN")


def check(network: Network, step: Quantize, pointer: str) -> None:
    """CompressionError layer_not_supported for full_int8 of recurrent layers that run in a loop."""
    if step.scheme != "full_int8":
        return
    for place in placed_layers(network.model):
        inner = getattr(place.layer, "forward_layer", place.layer)
        if type(inner).__name__ in _LOOPS:
            raise CompressionError(
                "layer_not_supported",
                f"the {type(inner).__name__} layer {place.path} cannot be converted with full_int8",
                hint="dynamic_int8 stores its weights in 8 bits too",
                layer=place.path,
                pointer=f"{pointer}/scheme",
            )


def quantize(network: Network, step: Quantize, context: Context) -> Network:
    """Convert to a quantised ``.tflite``; the Keras model stays float. CompressionError conversion_failed."""

    def configure(converter: Any) -> None:
        converter.optimizations = [lite.Optimize.DEFAULT]
        if step.scheme == "float16":
            converter.target_spec.supported_types = [tf.float16]
        elif step.scheme == "full_int8":
            dtype = network.model.inputs[0].dtype.as_numpy_dtype
            _calibrate(converter, step, context.training_data, dtype)

    content = to_tflite(network.model, configure)
    context.record.details.update(scheme=step.scheme, bytes=len(content))
    if step.scheme == "full_int8":
        context.record.details["calibration_samples"] = len(context.training_data.calibration)
    return replace(network, tflite=content)


def _calibrate(converter: Any, step: Quantize, data: Data, sample_dtype: Any) -> None:
    dtype = tf.int8 if step.io_dtype == "int8" else tf.float32
    converter.target_spec.supported_ops = [lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = dtype

    def samples() -> Iterator[list[Any]]:
        for index in data.calibration:
            yield [data.x[index : index + 1].astype(sample_dtype, copy=False)]

    converter.representative_dataset = samples
