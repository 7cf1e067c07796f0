"""Multiply-accumulates of the operations of a ``.tflite``, from the shapes in its outline.

A kernel of n weights is used once for every place of what it makes: n times the output's places of a
convolution or a matrix, of a transposed convolution the input's. Biases are not counted, as in
structured.macs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tasks.compression.outline.facts import Call, Layer, Outline
from tasks.compression.outline.skeleton import Cost

__all__ = ["operation_cost"]

Shape = tuple[int | None, ...]


def operation_cost(outline: Outline) -> Cost:
    """`unknown` are operations that multiply, and the file does not hold their weights or shapes."""
    layers = {layer.path: layer for layer in outline.layers}
    found = Cost()
    for call in outline.calls:
        layer = layers[call.layer]
        rule = _RULES.get(layer.kind)
        if rule is None:
            continue
        macs = rule(outline, layer, call)
        if macs is None:
            found.unknown.add(call.layer)
            continue
        found.macs[call.layer] = found.macs.get(call.layer, 0) + macs
        if _is_open(outline, call):
            found.assumed.add(call.layer)
    return found


def _is_open(outline: Outline, call: Call) -> bool:
    shapes = [outline.tensors[number] for number in (*call.inputs[:1], *call.outputs[:1])]
    return any(size is None or size < 0 for shape in shapes if shape for size in shape[1:])


def _kernel(layer: Layer) -> int | None:
    sizes = [weight.size for weight in layer.weights if len(weight.shape) > 1]
    return sizes[0] if sizes else None


def _places(shape: Shape | None, batch: int = 1) -> int | None:
    return None if not shape else math.prod(max(size or 1, 1) for size in shape[batch:-1])


def _times(kernel: int | None, places: int | None) -> int | None:
    return None if kernel is None or places is None else kernel * places


def _convolution(outline: Outline, layer: Layer, call: Call) -> int | None:
    return _times(_kernel(layer), _places(outline.tensors[call.outputs[0]]))


def _transposed(outline: Outline, layer: Layer, call: Call) -> int | None:
    # Its inputs are the shape of the output, the kernel, and then what it is applied to.
    given = call.inputs[2] if len(call.inputs) > 2 else call.inputs[0]
    return _times(_kernel(layer), _places(outline.tensors[given]))


def _matrix(outline: Outline, layer: Layer, call: Call) -> int | None:
    return _times(_kernel(layer), _places(outline.tensors[call.outputs[0]]))


def _sequence(outline: Outline, layer: Layer, call: Call) -> int | None:
    shape = outline.tensors[call.inputs[0]]
    kernels = [weight.size for weight in layer.weights if len(weight.shape) > 1]
    if not kernels or shape is None or len(shape) != 3:
        return None
    return sum(kernels) * max(shape[1] or 1, 1)


def _open(_: Outline, __: Layer, ___: Call) -> int | None:
    return None


_RULES: dict[str, Callable[[Outline, Layer, Call], int | None]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "CONV_3D": _convolution,
    "TRANSPOSE_CONV": _transposed,
    "CONV_3D_TRANSPOSE": _transposed,
    "FULLY_CONNECTED": _matrix,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _sequence,
    "UNIDIRECTIONAL_SEQUENCE_RNN": _sequence,
    **dict.fromkeys(
        ["BATCH_MATMUL", "LSTM", "RNN", "SVDF", "WHILE", "CUSTOM", "BIDIRECTIONAL_SEQUENCE_LSTM"], _open
    ),
}
