"""Multiply-accumulates of the operations of a ``.tflite``, by the conventions of structured.macs."""

from __future__ import annotations

from math import isqrt, prod

from tasks.compression.outline.facts import Call, Layer, Outline, Weight

__all__ = ["kernel", "macs_of"]

_UNCOUNTED = frozenset({"SVDF", "RNN", "LSTM", "WHILE", "IF", "CALL", "CONV_3D_TRANSPOSE"})
_SEQUENCES = frozenset(
    {
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        "UNIDIRECTIONAL_SEQUENCE_RNN",
        "BIDIRECTIONAL_SEQUENCE_LSTM",
        "BIDIRECTIONAL_SEQUENCE_RNN",
    }
)

Shape = tuple[int | None, ...]


def kernel(layer: Layer) -> Weight | None:
    """What is quantised of an operation: the largest of its weights with two axes or more."""
    return max((w for w in layer.weights if len(w.shape) > 1), key=lambda w: w.size, default=None)


def macs_of(outline: Outline, layer: Layer, call: Call) -> int | None:
    """Of one call for one sample, sizes left open counted as 1; None where they cannot be told."""
    given = [outline.tensors[number] or () for number in call.inputs]
    made = [outline.tensors[number] or () for number in call.outputs]
    weights = kernel(layer)
    if layer.kind in _UNCOUNTED or (layer.kind.startswith("STABLEHLO") and weights is not None):
        return None
    if layer.kind == "BATCH_MATMUL" and len(given) > 1:
        # Of (m, k) and (k, n) into (m, n), either transposed or not; the leading axes are the batch's.
        batch = _size(made[0][:-2])
        parts = [_size(shape[-2:]) for shape in (given[0], given[1], made[0])]
        return batch * isqrt(prod(parts))
    if weights is None or not made:
        return 0
    if layer.kind in _SEQUENCES:
        every = sum(weight.size for weight in layer.weights if len(weight.shape) == 2)
        return every * _size(given[0][:-1])
    if layer.kind == "TRANSPOSE_CONV":
        images = [shape for shape in given if len(shape) == 4 and shape != weights.shape]
        return weights.size * _size(images[0][1:3]) if images else None
    positions = {
        "CONV_2D": _size(made[0][1:3]),
        "DEPTHWISE_CONV_2D": _size(made[0][1:3]),
        "CONV_3D": _size(made[0][1:4]),
        "FULLY_CONNECTED": _size(made[0][:-1]),
    }
    return weights.size * positions.get(layer.kind, 0)


def _size(shape: Shape) -> int:
    return prod(size or 1 for size in shape)
