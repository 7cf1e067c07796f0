"""The multiply-accumulates (MACs) of PyTorch's layers and operations, in the convention of
`tasks.compression.structured.cost`: counted from the shapes that a batch has on its way, for one sample.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from tasks.compression.backends.torch.structured.graph import Call, Tensor, per_sample
from tasks.compression.structured.framework import Usage

__all__ = ["uses"]


def uses(call: Call) -> Usage:
    """What `call` costs; nothing for what is not counted."""
    rules = _OPERATIONS if call.layer.module is None else _LAYERS
    rule = rules.get(call.layer.kind)
    return Usage() if rule is None or not call.inputs else rule(call)


def _positions(tensor: Tensor, width: int) -> int:
    """How many vectors of that width one sample has."""
    return per_sample(prod(tensor.shape) // width)


def _convolution(call: Call) -> Usage:
    module: Any = call.layer.module
    return _kernels(call, ("weight",), _positions(call.outputs[0], module.out_channels))


def _transposed_convolution(call: Call) -> Usage:
    module: Any = call.layer.module
    return _kernels(call, ("weight",), _positions(call.inputs[0], module.in_channels))


def _linear(call: Call) -> Usage:
    module: Any = call.layer.module
    return _kernels(call, ("weight",), _positions(call.inputs[0], module.in_features))


def _recurrent(call: Call) -> Usage:
    module: Any = call.layer.module
    names = [weight.name for weight in call.layer.weights if weight.name.startswith("weight_")]
    return _kernels(call, tuple(names), _positions(call.inputs[0], module.input_size))


def _attention(call: Call) -> Usage:
    """Projections of queries, keys, values and the result, and the products of queries with keys and of
    what they weigh with values."""
    module: Any = call.layer.module
    given = [value for value in call.arguments if isinstance(value, Tensor)] or list(call.inputs)
    query, key = given[0], given[min(1, len(given) - 1)]
    width = module.embed_dim
    reading = _positions(query, query.shape[-1])
    read = _positions(key, key.shape[-1])
    fixed = 2 * reading * read * width
    if module.in_proj_weight is not None and reading == read:
        projected = _kernels(call, ("in_proj_weight",), reading).kernels
    else:
        widths = (width, module.kdim, module.vdim)
        fixed += sum(
            positions * width * size for positions, size in zip((reading, read, read), widths, strict=True)
        )
        projected = ()
    return Usage((*projected, *_kernels(call, ("out_proj.weight",), reading).kernels), fixed)


def _kernels(call: Call, names: tuple[str, ...], times: int) -> Usage:
    kernels = tuple((weight, times) for weight in call.layer.weights if weight.name in names)
    borrowed = sum(times * prod(weight.shape) for weight in call.layer.borrowed if weight.name in names)
    return Usage(kernels, borrowed)


def _product(call: Call) -> Usage:
    """Of matrices: every element of the result is a sum along the last axis of the first."""
    one = call.inputs[-2]
    return Usage(fixed=per_sample(prod(call.outputs[0].shape) * one.shape[-1]))


def _functional_convolution(call: Call) -> Usage:
    return Usage(fixed=per_sample(prod(call.outputs[0].shape) * prod(call.inputs[1].shape[1:])))


def _functional_linear(call: Call) -> Usage:
    return Usage(fixed=per_sample(prod(call.outputs[0].shape) * call.inputs[0].shape[-1]))


def _functional_attention(call: Call) -> Usage:
    query, key, value = call.inputs[:3]
    pairs = prod(query.shape[:-1]) * key.shape[-2]
    return Usage(fixed=per_sample(pairs * (query.shape[-1] + value.shape[-1])))


def _einsum(call: Call) -> Usage:
    """Every combination of values of all letters is one product."""
    equation = next((value for value in call.arguments if isinstance(value, str)), "")
    if "." in equation:
        return Usage()
    sizes: dict[str, int] = {}
    for letters, tensor in zip(equation.split("->")[0].split(","), call.inputs, strict=True):
        sizes.update(zip(letters.replace(" ", ""), tensor.shape, strict=True))
    return Usage(fixed=per_sample(prod(sizes.values())))


_Count = Callable[[Call], Usage]

_LAYERS: dict[str, _Count] = {
    **dict.fromkeys(["Conv1d", "Conv2d", "Conv3d"], _convolution),
    **dict.fromkeys(["ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"], _transposed_convolution),
    "Linear": _linear,
    **dict.fromkeys(["RNN", "LSTM", "GRU"], _recurrent),
    "MultiheadAttention": _attention,
}

_OPERATIONS: dict[str, _Count] = {
    **dict.fromkeys(["matmul", "bmm", "mm", "mv", "__matmul__", "addmm", "baddbmm"], _product),
    **dict.fromkeys(["conv1d", "conv2d", "conv3d", "convolution"], _functional_convolution),
    "linear": _functional_linear,
    "scaled_dot_product_attention": _functional_attention,
    "einsum": _einsum,
}
