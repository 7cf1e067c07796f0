"""Convolutions, linear layers and embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.compression.backends.torch._framework import nn
from tasks.compression.backends.torch.rebuild.held import Call, Held, transposed
from tasks.compression.backends.torch.rebuild.making import Converter, Made, unfilled

__all__ = ["CONVERTERS"]

_CONVOLUTIONS: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, type[nn.Module]] = {
    1: nn.ConvTranspose1d,
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}


def _tensors(call: Call, *names: str) -> dict[str, Held] | None:
    """The parameters, the second of which may be None; None where one is anything else."""
    found = {name: held for name in names if (held := call.parameter(name)) is not None}
    first, *others = names
    missing = any(name not in found and call[name] is not None for name in others)
    return None if first not in found or missing else found


def _spread(value: Any, rank: int) -> tuple[int, ...]:
    values = list(value) if isinstance(value, Sequence) else [value]
    return tuple(values * rank if len(values) == 1 else values)


def _convolution(call: Call) -> Made | None:
    tensors = _tensors(call, "weight", "bias")
    options = ("stride", "padding", "dilation", "groups")
    if tensors is None or not call.numbers(*options):
        return None
    weight = tensors["weight"].tensor
    rank = weight.ndim - 2
    padding = call["padding"]
    layer = unfilled(
        _CONVOLUTIONS[rank],
        weight.shape[1] * call["groups"],
        weight.shape[0],
        tuple(weight.shape[2:]),
        _spread(call["stride"], rank),
        padding if isinstance(padding, str) else _spread(padding, rank),
        _spread(call["dilation"], rank),
        call["groups"],
        "bias" in tensors,
    )
    return Made(layer, (call["input"],), tensors)


def _transposed_convolution(call: Call) -> Made | None:
    tensors = _tensors(call, "weight", "bias")
    options = ("stride", "padding", "output_padding", "dilation", "groups")
    if tensors is None or not call.numbers(*options):
        return None
    weight = tensors["weight"].tensor
    rank = weight.ndim - 2
    stride, padding, output_padding, dilation = (
        _spread(call[name], rank) for name in ("stride", "padding", "output_padding", "dilation")
    )
    layer = unfilled(
        _TRANSPOSED[rank],
        weight.shape[0],
        weight.shape[1] * call["groups"],
        tuple(weight.shape[2:]),
        stride,
        padding,
        output_padding,
        call["groups"],
        "bias" in tensors,
        dilation,
    )
    return Made(layer, (call["input"],), tensors)


def _any_convolution(call: Call) -> Made | None:
    return _transposed_convolution(call) if call["transposed"] else _convolution(call)


def _linear(call: Call) -> Made | None:
    tensors = _tensors(call, "weight", "bias")
    return None if tensors is None else _linear_layer(call["input"], tensors)


def _linear_layer(given: Any, tensors: dict[str, Held]) -> Made | None:
    weight = tensors["weight"].tensor
    if weight.ndim != 2:
        return None
    made, inputs = weight.shape
    return Made(unfilled(nn.Linear, inputs, made, "bias" in tensors), (given,), tensors)


def _addmm(call: Call) -> Made | None:
    weight, bias = transposed(call, "mat2"), call.parameter("self")
    if weight is None or bias is None or (call["alpha"], call["beta"]) != (1, 1):
        return None
    if tuple(bias.tensor.shape) != (weight.tensor.shape[0],):
        return None
    return _linear_layer(call["mat1"], {"weight": weight, "bias": bias})


def _matmul(first: str, second: str) -> Converter:
    def convert(call: Call) -> Made | None:
        weight = transposed(call, second)
        return None if weight is None else _linear_layer(call[first], {"weight": weight})

    return convert


def _embedding(call: Call) -> Made | None:
    tensors = _tensors(call, "weight")
    if tensors is None or call["sparse"]:
        return None
    padding = call["padding_idx"]
    layer = unfilled(
        nn.Embedding,
        *tensors["weight"].tensor.shape,
        padding_idx=None if padding < 0 else padding,
        scale_grad_by_freq=call["scale_grad_by_freq"],
    )
    return Made(layer, (call["indices"],), tensors)


def _prelu(call: Call) -> Made | None:
    tensors = _tensors(call, "weight")
    if tensors is None or tensors["weight"].tensor.ndim != 1:
        return None
    return Made(unfilled(nn.PReLU, tensors["weight"].tensor.numel()), (call["self"],), tensors)


CONVERTERS: dict[str, Converter] = {
    **{f"aten.conv{rank}d.{kind}": _convolution for rank in (1, 2, 3) for kind in ("default", "padding")},
    "aten.conv_transpose1d.default": _transposed_convolution,
    "aten.conv_transpose2d.input": _transposed_convolution,
    "aten.conv_transpose3d.input": _transposed_convolution,
    "aten.convolution.default": _any_convolution,
    "aten.linear.default": _linear,
    "aten.addmm.default": _addmm,
    "aten.mm.default": _matmul("self", "mat2"),
    "aten.matmul.default": _matmul("self", "other"),
    "aten.embedding.default": _embedding,
    "aten.prelu.default": _prelu,
}
