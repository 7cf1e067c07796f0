"""Quantisation by TensorFlow's converter: float16, dynamic_int8, full_int8 and int16x8.

full_int8 takes two passes: calibration writes the range of every tensor into a float file, and that file is
quantised, as often as wanted, with any of its operations left in float.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from featherweight.spec import Quantize
from tasks.compression.backends.tensorflow._framework import lite, quantize_calibrated, tf
from tasks.compression.backends.tensorflow.convert import to_tflite
from tasks.compression.errors import CompressionError
from tasks.compression.quantizing.int16 import refuse_unknown_int16
from tasks.compression.samples import Samples, Tensors, arrays_of, signature_names

__all__ = [
    "calibrated",
    "convert_int16",
    "convert_weights",
    "integers",
    "not_quantised",
]


def convert_weights(model: Any, scheme: str) -> bytes:
    """float16 or dynamic_int8, all layers. The latter leaves weights under 1,024 values in float."""

    def configure(converter: Any) -> None:
        converter.optimizations = [lite.Optimize.DEFAULT]
        if scheme == "float16":
            converter.target_spec.supported_types = [tf.float16]

    content: bytes = to_tflite(model, configure)
    return content


def convert_int16(model: Any, samples: Tensors) -> bytes:
    """int16x8, all layers: activations int16, weights int8, inputs and outputs float.

    CompressionError conversion_failed, also for a file with operations not known to run.
    """

    def configure(converter: Any) -> None:
        _calibrate(converter, samples, [tensor.dtype.as_numpy_dtype for tensor in model.inputs])
        converter.target_spec.supported_ops = [
            lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ]

    content: bytes = to_tflite(model, configure)
    refuse_unknown_int16(content)
    return content


def not_quantised(error: Exception) -> CompressionError:
    """conversion_failed, with what the converter said first."""
    text = str(error).strip() or type(error).__name__
    return CompressionError(
        "conversion_failed",
        f"TensorFlow's converter could not quantise the model: {text.splitlines()[0][:300]}",
        hint="dynamic_int8 or float16 may work",
    )


def calibrated(model: Any, samples: Tensors, *, per_tensor: bool) -> bytes:
    """The model as a float file that holds the range every tensor had over `samples`."""

    def configure(converter: Any) -> None:
        _calibrate(converter, samples, [tensor.dtype.as_numpy_dtype for tensor in model.inputs])
        converter.target_spec.supported_ops = [lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter._experimental_disable_per_channel = per_tensor
        converter._experimental_disable_per_channel_quantization_for_dense_layers = per_tensor
        converter._experimental_calibrate_only = True

    content: bytes = to_tflite(model, configure)
    return content


def integers(content: bytes, step: Quantize, float_outputs: Iterable[str]) -> bytes:
    """full_int8 of what `calibrated` returned. Operations whose output tensor is named in `float_outputs`
    stay float. CompressionError conversion_failed."""
    dtype = tf.int8 if step.io_dtype == "int8" else tf.float32
    per_tensor = step.granularity == "per_tensor"
    try:
        quantized = quantize_calibrated(
            content,
            disable_per_channel=per_tensor,
            disable_per_channel_for_dense_layers=per_tensor,
            input_data_type=dtype,
            output_data_type=dtype,
            denylisted_nodes=sorted(float_outputs),
        )
    # The converter raises its own ConverterError, ValueError, RuntimeError and more.
    except Exception as error:
        raise not_quantised(error) from error
    return bytes(quantized)


def _calibrate(converter: Any, samples: Tensors, dtypes: Sequence[Any]) -> None:
    """`dtypes` are those of the model's inputs, in their order. Several go by the signature's names: the
    converter has an order of its own."""
    columns = [
        array.astype(dtype, copy=False) for array, dtype in zip(arrays_of(samples), dtypes, strict=True)
    ]
    names = signature_names(samples.names) if isinstance(samples, Samples) else ()

    def each() -> Iterator[Any]:
        for index in range(len(samples)):
            sample = [column[index : index + 1] for column in columns]
            yield dict(zip(names, sample, strict=True)) if names else sample

    converter.optimizations = [lite.Optimize.DEFAULT]
    converter.representative_dataset = each
