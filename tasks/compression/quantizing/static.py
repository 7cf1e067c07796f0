"""full_int8 and int16x8 of a float ``.tflite`` by litert-quantizer, without TensorFlow.

Its calibrator takes a moving average of every sample's range, which cuts off what few samples reach: logits
above all. So ranges are measured here, as the least and the greatest value over all samples.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from featherweight.spec import Quantize
from tasks.compression.errors import CompressionError
from tasks.compression.quantizing.inside import Inside
from tasks.compression.quantizing.int16 import refuse_unknown_int16
from tasks.compression.quantizing.lowbits import loadable, sample_inputs
from tasks.compression.samples import Tensors
from tasks.compression.tflite import Operation, read, written

__all__ = ["Ranges", "in_integers", "measured_ranges"]

Ranges = Mapping[str, tuple[float, float]]
"""The least and the greatest value of every tensor that is computed."""

_GRANULARITIES = {"per_channel": "CHANNELWISE", "per_tensor": "TENSORWISE"}
_INNER = "_in_integers"
_NARROW = ("CONV_2D", "FULLY_CONNECTED")
"""Operations with integer kernels for weights of fewer than 8 bits."""


def measured_ranges(content: bytes, samples: Tensors) -> dict[str, tuple[float, float]]:
    """Over all samples, which are run one by one through the float file `content`."""
    inside = Inside(content)
    names = [name for name, item in inside.places.items() if np.dtype(item["dtype"]).kind == "f"]
    found = dict.fromkeys(names, (np.inf, -np.inf))
    for place in range(len(samples)):
        inside.run(samples[place : place + 1])
        for name in names:
            values = inside.value(name)
            if values.size:
                low, high = found[name]
                found[name] = (min(low, float(values.min())), max(high, float(values.max())))
    return {name: ends for name, ends in found.items() if np.isfinite(ends).all()}


def in_integers(
    content: bytes,
    step: Quantize,
    samples: Tensors,
    ranges: Ranges,
    left_float: Iterable[Operation],
    *,
    weight_bits: int = 8,
) -> bytes:
    """The float file `content` under full_int8 or int16x8, with the operations `left_float` in float;
    `ranges` are those over the `samples`. Weights have `weight_bits`, 8 or 4, where there is a kernel for
    them. CompressionError conversion_failed."""
    from litert_quantizer.quantizer import Quantizer

    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            quantizer = Quantizer(bytearray(content))
            _configure(quantizer, step, left_float, weight_bits)
            told = quantizer.calibrate(sample_inputs(content, samples[:1]), num_threads=1)
            result = quantizer.quantize(
                _widened(told, ranges), enable_progress_bar=False, enable_progress_report=False
            )
        # It raises ValueError, RuntimeError, KeyError and more, by way of its algorithms.
        except Exception as error:
            raise CompressionError(
                "conversion_failed",
                f"litert-quantizer refused the model: {(str(error).strip() or type(error).__name__)[:300]}",
                hint="dynamic_int8 or float16 may work",
            ) from error
    made = _outputs_named(bytes(result.quantized_model))
    if step.scheme == "int16x8":
        refuse_unknown_int16(made)
    return loadable(made)


def _configure(quantizer: Any, step: Quantize, left_float: Iterable[Operation], weight_bits: int) -> None:
    from litert_quantizer.algorithm_manager import AlgorithmName
    from litert_quantizer.qtyping import QuantGranularity, TFLOperationName

    granularity = QuantGranularity[_GRANULARITIES.get(step.granularity, "CHANNELWISE")]
    bits = 16 if step.scheme == "int16x8" else 8
    quantizer.add_static_config(".*", TFLOperationName.ALL_SUPPORTED, bits, 8, weight_granularity=granularity)
    for kind in _NARROW if weight_bits < 8 else ():
        quantizer.add_static_config(
            ".*", TFLOperationName[kind], bits, weight_bits, weight_granularity=granularity
        )
    floats = [] if step.io_dtype == "int8" else [(".*", "INPUT"), (".*", "OUTPUT")]
    for operation in left_float:
        kind = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}.get(operation.kind, operation.kind)
        if kind in TFLOperationName.__members__:
            # An operation's scope is the names of its outputs, each with a semicolon after it.
            floats.append((f"^{re.escape(''.join(f'{name};' for name in operation.outputs))}$", kind))
    for scope, kind in floats:
        quantizer.update_quantization_recipe(scope, TFLOperationName[kind], None, AlgorithmName.NO_QUANTIZE)


def _widened(told: Mapping[str, Any], ranges: Ranges) -> dict[str, Any]:
    """What the quantiser measured of one sample, with the ranges over all of them."""
    result: dict[str, Any] = {}
    for name, entry in told.items():
        result[name] = dict(entry)
        if name in ranges and "min" in entry:
            for key, value in zip(("min", "max"), ranges[name], strict=True):
                result[name][key] = np.full_like(np.asarray(entry[key], dtype=np.float32), value)
    return result


def _outputs_named(content: bytes) -> bytes:
    """The file with its inputs and outputs named as in its signature: what converts to float and back takes
    their places."""
    model = read(content)
    graph = model.subgraphs[0]
    (told,) = model.signatureDefs
    for entry in (*told.inputs, *told.outputs):
        for place, tensor in enumerate(graph.tensors):
            if tensor.name == entry.name and place != entry.tensorIndex:
                tensor.name = entry.name + _INNER.encode()
        graph.tensors[entry.tensorIndex].name = entry.name
    return written(model, len(content))
