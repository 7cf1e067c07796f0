"""Bytes an output will have, estimated from sparsity, distinct values and bits.

A weight tensor of n values, of which the share s is zero, is taken to gzip to

    n / 8 * (H(s) + (1 - s) * v) * (1 + s² / 4)  bytes,   H(s) = -s log2 s - (1 - s) log2 (1 - s),

where v is the bits that gzip needs for a value that is not zero: of normally distributed values as many as
were measured (29.6 for float32, 14.8 for float16, 7 for int8, 3 for int4, 1.9 for int2); of k distinct values
no more than log2(k) times 1.15 for integers, 1.3 for float16 and 1.45 for float32, the last two times
(1 + 1.2 s²). The last factor is what DEFLATE loses on long runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from featherweight.plan import PlanSize
from tasks.compression.outline.facts import Layer, Outline, Weight

__all__ = ["entropy", "gzip_estimate", "size_of"]

_BITS = {
    "float32": 32.0,
    "float16": 16.0,
    "int8": 8.0,
    "int4": 4.0,
    "int2": 2.0,
    "int32": 32.0,
}
_FULL = {
    "float32": 29.6,
    "float16": 14.8,
    "int8": 7.0,
    "int4": 3.0,
    "int2": 1.9,
    "int32": 24.0,
}
_FEW = {"float32": 1.45, "float16": 1.3}
_FEW_INTEGERS = 1.15

# What is no weight, as measured on small networks, raw and gzipped: once, and for each call of a layer
# (``.tflite``) or each layer and each with weights (``.keras``).
_TFLITE, _TFLITE_CALL = (200, 250), (260, 75)
_INTEGERS, _INTEGERS_CALL = (300, 150), (100, 30)
_KERAS, _KERAS_LAYER, _KERAS_WEIGHTED = (4_000, 1_000), (400, 60), (3_700, 150)
_ONNX, _ONNX_NODE, _ONNX_INTEGERS = (200, 150), (100, 30), (500, 80)
_SCALE_BYTES = 12  # a float32 scale and an int64 zero point for each channel
_NORMALISATIONS = (
    "BatchNormalization",
    "SyncBatchNormalization",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
)


def gzip_estimate(size: int, zero_share: float, distinct: int | None, dtype: str) -> float:
    """Bytes of `size` values by the formula above."""
    full = _FULL.get(dtype, 29.6)
    values = max(1, (distinct or 0) - (1 if zero_share else 0)) if distinct is not None else None
    bits = full if values is None else min(full, _bits_of_few(values, zero_share, dtype))
    return size / 8 * (entropy(zero_share) + (1 - zero_share) * bits) * (1 + zero_share**2 / 4)


def _bits_of_few(values: int, zero_share: float, dtype: str) -> float:
    if dtype not in _FEW:
        return math.log2(values) * _FEW_INTEGERS
    return math.log2(values) * _FEW[dtype] * (1 + 1.2 * zero_share**2)


def entropy(share: float) -> float:
    """Of a yes or no, in bits."""
    if not 0 < share < 1:
        return 0.0
    return -share * math.log2(share) - (1 - share) * math.log2(1 - share)


def size_of(
    outline: Outline,
    output: str,
    dtypes: Mapping[str, str],
    *,
    integers: bool = False,
    levels: int | None = None,
    nonzero_known: bool,
) -> PlanSize:
    """What the network would be as `output`; `dtypes` are those of the layers that are not float32,
    `integers` says that activations are integers too, `levels` how many values integer weights take at most,
    where they are fewer than of their type."""
    raw, packed = 0.0, 0.0
    for layer in outline.layers:
        for weight, dtype in _stored(layer, output, dtypes):
            raw += weight.size * _BITS.get(dtype, 32.0) / 8
            share = weight.zeros / weight.size if weight.size else 0.0
            few = [each for each in (weight.distinct, levels if dtype in ("int4", "int8") else None) if each]
            packed += gzip_estimate(weight.size, share, min(few, default=None), dtype)
            if dtype.startswith("int") and len(weight.shape) > 1:
                raw += _SCALE_BYTES * weight.shape[-1]
                packed += 4 * weight.shape[-1]
    parts = _parts(outline, output, integers)
    for (bytes_, gzipped), count in parts:
        raw += bytes_ * count
        packed += gzipped * count
    return PlanSize(
        output=output,
        parameters=outline.parameters,
        nonzero_parameters=sum(layer.nonzero for layer in outline.layers) if nonzero_known else None,
        bytes_estimate=round(raw),
        gzip_bytes_estimate=min(round(raw), round(packed)),
    )


def _tflite_parts(outline: Outline, integers: bool) -> list[tuple[tuple[int, int], int]]:
    """What a file holds besides weights, and how often; normalisation becomes part of its neighbour."""
    kinds = {layer.path: layer.kind for layer in outline.layers}
    silent = ("InputLayer", "Dropout", *_NORMALISATIONS)
    calls = sum(1 for call in outline.calls if kinds.get(call.layer) not in silent)
    parts = [(_TFLITE, 1), (_TFLITE_CALL, calls)]
    if integers:
        parts += [(_INTEGERS, 1), (_INTEGERS_CALL, calls)]
    return parts


def _parts(outline: Outline, output: str, integers: bool) -> list[tuple[tuple[int, int], int]]:
    if output == "tflite":
        return _tflite_parts(outline, integers)
    return _onnx_parts(outline, integers) if outline.kind == "onnx" else _keras_parts(outline)


def _onnx_parts(outline: Outline, integers: bool) -> list[tuple[tuple[int, int], int]]:
    nodes = len(outline.calls)
    parts = [(_ONNX, 1), (_ONNX_NODE, nodes)]
    return [*parts, (_ONNX_INTEGERS, nodes)] if integers else parts


def _keras_parts(outline: Outline) -> list[tuple[tuple[int, int], int]]:
    weighted = sum(1 for layer in outline.layers if layer.weights)
    return [(_KERAS, 1), (_KERAS_LAYER, len(outline.layers)), (_KERAS_WEIGHTED, weighted)]


def _stored(layer: Layer, output: str, dtypes: Mapping[str, str]) -> Iterator[tuple[Weight, str]]:
    """The weights that are in the file, each with its type. A ``.tflite`` folds batch normalisation into the
    layer before it: of its weights about one bias is left."""
    if output == "keras" or (output == "pt2" and not dtypes):
        yield from ((weight, weight.dtype) for weight in layer.weights)
        return
    kept = layer.weights[:1] if layer.kind in _NORMALISATIONS else layer.weights
    dtype = dtypes.get(layer.path, "float32").split("+")[0]
    for weight in kept:
        if len(weight.shape) > 1:
            yield weight, dtype
        else:
            yield weight, {"int8": "int32", "float16": "float16"}.get(dtype, "float32")
