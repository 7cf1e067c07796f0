"""The multiply-accumulates (MACs) of Keras' layers, in the convention of `tasks.compression.structured.cost`.

A size the model leaves open (None) counts as 1, and one that Keras cannot compute as what a nested model was
built with; both are reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from math import prod
from typing import Any

from tasks.compression.backends.tensorflow.structured.graph import (
    Call,
    Graph,
    Shape,
    Tensor,
    is_keras,
    kind,
)
from tasks.compression.structured.framework import Usage

__all__ = ["assumptions", "uses"]


_OPEN = "with the sizes that the model leaves open as 1"
_AS_BUILT = (
    "with the sizes its nested model was built with, open ones as 1: Keras cannot compute those it is given"
)


def assumptions(graph: Graph) -> dict[str, str]:
    """The layers whose MACs are counted for sizes that are not known, each with what was taken for them."""
    found: dict[str, str] = {}
    for call in graph.calls:
        why = _assumed(call)
        if why is not None:
            found.setdefault(call.name, why)
    return found


def uses(call: Call) -> Usage:
    """What `call` costs; nothing for layers that are not counted."""
    if not is_keras(call.layer):
        return Usage()
    rule = _USES.get(kind(call.layer))
    return Usage() if rule is None else rule(call)


def _assumed(call: Call) -> str | None:
    usage, tensors = uses(call), (*call.inputs, *call.outputs)
    if not usage.kernels and not usage.fixed:
        return None
    if any(tensor.as_built for tensor in tensors):
        return _AS_BUILT
    if any(None in tensor.shape[1:] for tensor in tensors):
        return _OPEN
    return None


def _size(sizes: Iterable[int | None]) -> int:
    return prod(size or 1 for size in sizes)


def _positions(shape: Shape, layer: Any) -> int:
    first = getattr(layer, "data_format", None) == "channels_first"
    return _size(shape[2:] if first else shape[1:-1])


def _convolution(call: Call) -> Usage:
    return Usage(((call.layer.kernel, _positions(call.outputs[0].shape, call.layer)),))


def _transposed_convolution(call: Call) -> Usage:
    return Usage(((call.layer.kernel, _positions(call.inputs[0].shape, call.layer)),))


def _depthwise_convolution(call: Call) -> Usage:
    return Usage(((call.layer.depthwise_kernel, _positions(call.outputs[0].shape, call.layer)),))


def _separable_convolution(call: Call) -> Usage:
    times = _positions(call.outputs[0].shape, call.layer)
    return Usage(((call.layer.depthwise_kernel, times), (call.layer.pointwise_kernel, times)))


def _dense(call: Call) -> Usage:
    return Usage(((call.layer.kernel, _size(call.inputs[0].shape[1:-1])),))


def _einsum(call: Call) -> Usage:
    return Usage(((call.layer.kernel, _einsum_uses(call.layer, call.inputs[0].shape)),))


def _einsum_uses(layer: Any, shape: Shape) -> int:
    """The product of the sizes that are in the input and not in the kernel, the batch apart."""
    written, kernel = layer.equation.split("->")[0].split(",")
    # An ellipsis stands for leading axes that the kernel does not have.
    letters = written.replace("...", "." * (len(shape) - len(written.replace("...", ""))))
    sizes = list(zip(letters, shape, strict=True))[1:]
    return _size(size for letter, size in sizes if letter == "." or letter not in kernel)


def _recurrent(call: Call) -> Usage:
    cell = call.layer.cell
    steps = _size(call.inputs[0].shape[1:-1])
    return Usage(((cell.kernel, steps), (cell.recurrent_kernel, steps)))


def _bidirectional(call: Call) -> Usage:
    layers = (call.layer.forward_layer, call.layer.backward_layer)
    sides = [uses(replace(call, layer=layer)) for layer in layers]
    return Usage(tuple(kernel for side in sides for kernel in side.kernels))


def _recurrent_convolution(call: Call) -> Usage:
    cell = call.layer.cell
    steps = call.inputs[0].shape[1] or 1
    rank = len(cell.kernel.shape) - 2
    positions = steps * _size(call.outputs[0].shape[-rank - 1 : -1])
    return Usage(((cell.kernel, positions), (cell.recurrent_kernel, positions)))


def _attention(call: Call) -> Usage:
    layer = call.layer
    query = call.inputs[0].shape
    value = call.inputs[min(1, len(call.inputs) - 1)].shape
    key = call.inputs[2].shape if len(call.inputs) > 2 else value
    projections = (
        (layer._query_dense, query),
        (layer._key_dense, key),
        (layer._value_dense, value),
    )
    kernels = [(dense.kernel, _einsum_uses(dense, shape)) for dense, shape in projections]
    kernels.append((layer._output_dense.kernel, _size(query[1:-1])))
    pairs = _size(query[1:-1]) * _size(value[1:-1])
    return Usage(tuple(kernels), layer._num_heads * pairs * (layer._key_dim + layer._value_dim))


def _time_distributed(call: Call) -> Usage:
    def step(tensor: Tensor) -> Tensor:
        return replace(tensor, shape=(tensor.shape[0], *tensor.shape[2:]))

    inner = uses(
        replace(
            call,
            layer=call.layer.layer,
            inputs=tuple(map(step, call.inputs)),
            outputs=tuple(map(step, call.outputs)),
        )
    )
    steps = call.inputs[0].shape[1] or 1
    return Usage(tuple((kernel, times * steps) for kernel, times in inner.kernels), inner.fixed * steps)


_USES: dict[str, Callable[[Call], Usage]] = {
    **dict.fromkeys(["Conv1D", "Conv2D", "Conv3D"], _convolution),
    **dict.fromkeys(["Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"], _transposed_convolution),
    **dict.fromkeys(["DepthwiseConv1D", "DepthwiseConv2D"], _depthwise_convolution),
    **dict.fromkeys(["SeparableConv1D", "SeparableConv2D"], _separable_convolution),
    "Dense": _dense,
    "EinsumDense": _einsum,
    **dict.fromkeys(["SimpleRNN", "LSTM", "GRU"], _recurrent),
    "Bidirectional": _bidirectional,
    **dict.fromkeys(["ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"], _recurrent_convolution),
    "MultiHeadAttention": _attention,
    "TimeDistributed": _time_distributed,
}
