"""The layer or function of PyTorch that each operator of ONNX is rebuilt as."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from tasks.compression.backends.torch._framework import fx, nn, torch
from tasks.compression.backends.torch.programs.lowering import Graph, Rule, Unconvertible
from tasks.compression.outline.onnx.message import Node

__all__ = ["LOWERED"]

_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_MAXIMA = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_MEANS = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
_DTYPES = {1: torch.float32, 6: torch.int32, 7: torch.int64}


def _set(module: nn.Module, **values: torch.Tensor | None) -> nn.Module:
    with torch.no_grad():
        for name, value in values.items():
            if value is not None:
                getattr(module, name).copy_(value)
    return module


def _window(
    node: Node, sizes: tuple[int | None, ...], kernel: list[int]
) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations and pads, the latter before and after each axis in turn. Unconvertible."""
    count, told = len(kernel), node.attributes
    strides, dilations = told.get("strides") or [1] * count, told.get("dilations") or [1] * count
    automatic = told.get("auto_pad", b"NOTSET")
    if automatic not in (b"SAME_UPPER", b"SAME_LOWER"):
        pads = told.get("pads") or [0] * (2 * count)
        return strides, dilations, [0] * (2 * count) if automatic == b"VALID" else pads
    before, after = [], []
    for size, length, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        if size is None:
            raise Unconvertible("its padding depends on the input")
        whole = max(0, (-(-size // stride) - 1) * stride + (length - 1) * dilation + 1 - size)
        small, large = whole // 2, whole - whole // 2
        before.append(small if automatic == b"SAME_UPPER" else large)
        after.append(large if automatic == b"SAME_UPPER" else small)
    return strides, dilations, [*before, *after]


def _padded(graph: Graph, given: fx.Node, pads: list[int], value: float) -> tuple[fx.Node, list[int]]:
    """The input with what is not the same on both sides added to it, and the padding that is left."""
    count = len(pads) // 2
    if pads[:count] == pads[count:]:
        return given, pads[:count]
    order = [pads[place + side * count] for place in range(count)[::-1] for side in (0, 1)]
    return graph.call(nn.functional.pad, given, order, value=value), [0] * count


def _conv(graph: Graph, node: Node, name: str) -> fx.Node:
    weight = graph.weight(node, 1)
    bias = graph.weight(node, 2) if len(node.inputs) > 2 and node.inputs[2] else None
    kernel, groups = list(weight.shape[2:]), node.attributes.get("group", 1)
    strides, dilations, pads = _window(node, graph.shape(node.inputs[0])[2:], kernel)
    given, padding = _padded(graph, graph.of(node.inputs[0]), pads, 0.0)
    layer = _CONVOLUTIONS[len(kernel)](
        weight.shape[1] * groups, weight.shape[0], tuple(kernel), tuple(strides), tuple(padding),
        tuple(dilations), groups, bias is not None,
    )  # fmt: skip
    return graph.layer(name, _set(layer, weight=weight, bias=bias), given)


def _transposed(graph: Graph, node: Node, name: str) -> fx.Node:
    weight = graph.weight(node, 1)
    bias = graph.weight(node, 2) if len(node.inputs) > 2 and node.inputs[2] else None
    kernel, groups = list(weight.shape[2:]), node.attributes.get("group", 1)
    count = len(kernel)
    if "output_shape" in node.attributes or node.attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise Unconvertible("its padding is not said in numbers")
    strides, dilations, pads = _window(node, (), kernel)
    if pads[:count] != pads[count:]:
        raise Unconvertible("its padding is not the same on both sides")
    more = node.attributes.get("output_padding") or [0] * count
    layer = _TRANSPOSED[count](
        weight.shape[0], weight.shape[1] * groups, tuple(kernel), tuple(strides), tuple(pads[:count]),
        tuple(more), groups, bias is not None, tuple(dilations),
    )  # fmt: skip
    return graph.layer(name, _set(layer, weight=weight, bias=bias), graph.of(node.inputs[0]))


def _gemm(graph: Graph, node: Node, name: str) -> fx.Node:
    told = node.attributes
    if told.get("transA") or told.get("alpha", 1.0) != 1.0 or told.get("beta", 1.0) != 1.0:
        raise Unconvertible("it scales or transposes")
    weight = graph.weight(node, 1)
    weight = weight if told.get("transB") else weight.T
    bias = graph.weight(node, 2).reshape(-1) if len(node.inputs) > 2 and node.inputs[2] else None
    if bias is not None and len(bias) != len(weight):
        bias = bias.expand(len(weight))
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    return graph.layer(name, _set(layer, weight=weight, bias=bias), graph.of(node.inputs[0]))


def _matmul(graph: Graph, node: Node, name: str) -> fx.Node:
    weight = graph.constant(node.inputs[1])
    if weight is None or weight.dim() != 2:
        return graph.call(torch.matmul, *graph.given(node))
    layer = nn.Linear(weight.shape[0], weight.shape[1], bias=False)
    return graph.layer(name, _set(layer, weight=weight.T), graph.of(node.inputs[0]))


def _batch_norm(graph: Graph, node: Node, name: str) -> fx.Node:
    scale, offset, mean, variance = (graph.weight(node, place) for place in range(1, 5))
    kind = _NORMS[len(graph.shape(node.inputs[0]))]
    layer = kind(len(scale), node.attributes.get("epsilon", 1e-5))
    _set(layer, weight=scale, bias=offset, running_mean=mean, running_var=variance)
    return graph.layer(name, layer, graph.of(node.inputs[0]))


def _layer_norm(graph: Graph, node: Node, name: str) -> fx.Node:
    scale = graph.weight(node, 1)
    bias = graph.weight(node, 2) if len(node.inputs) > 2 and node.inputs[2] else torch.zeros_like(scale)
    rank = len(graph.shape(node.inputs[0]))
    if node.attributes.get("axis", -1) % rank != rank - scale.dim():
        raise Unconvertible("its scale is not that of the axes it normalises")
    layer = nn.LayerNorm(list(scale.shape), node.attributes.get("epsilon", 1e-5))
    return graph.layer(name, _set(layer, weight=scale, bias=bias), graph.of(node.inputs[0]))


def _pool(graph: Graph, node: Node, name: str) -> fx.Node:
    kernel = node.attributes["kernel_shape"]
    largest, count = node.operator == "MaxPool", len(kernel)
    strides, dilations, pads = _window(node, graph.shape(node.inputs[0])[2:], kernel)
    ceil = bool(node.attributes.get("ceil_mode"))
    given = graph.of(node.inputs[0])
    if largest:
        given, padding = _padded(graph, given, pads, float("-inf"))
        layer = _MAXIMA[count](kernel, strides, padding, dilations, ceil_mode=ceil)
        return graph.layer(name, layer, given)
    if pads[:count] != pads[count:] or set(dilations) != {1}:
        raise Unconvertible("its padding is not the same on both sides, or it is dilated")
    whole = bool(node.attributes.get("count_include_pad"))
    layer = _MEANS[count](kernel, strides, pads[:count], ceil_mode=ceil, count_include_pad=whole)
    return graph.layer(name, layer, given)


def _global_pool(graph: Graph, node: Node, name: str) -> fx.Node:
    axes = list(range(2, len(graph.shape(node.inputs[0]))))
    function = torch.amax if node.operator == "GlobalMaxPool" else torch.mean
    return graph.call(function, graph.of(node.inputs[0]), axes, keepdim=True)


def _clip(graph: Graph, node: Node, name: str) -> fx.Node:
    low, high = (
        float(graph.weight(node, place)) if len(node.inputs) > place and node.inputs[place] else None
        for place in (1, 2)
    )
    given = graph.of(node.inputs[0])
    if (low, high) == (0.0, 6.0):
        return graph.layer(name, nn.ReLU6(), given)
    return graph.call(torch.clamp, given, low, high)


def _prelu(graph: Graph, node: Node, name: str) -> fx.Node:
    slope, rank = graph.weight(node, 1), len(graph.shape(node.inputs[0]))
    if slope.numel() > 1 and (slope.dim() != rank - 1 or slope.numel() != slope.shape[0]):
        raise Unconvertible("its slopes are not one for each channel")
    layer = nn.PReLU(slope.numel())
    return graph.layer(name, _set(layer, weight=slope.reshape(-1)), graph.of(node.inputs[0]))


def _hard_sigmoid(graph: Graph, node: Node, name: str) -> fx.Node:
    slope, offset = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    scaled = graph.call(operator.add, graph.call(operator.mul, graph.of(node.inputs[0]), slope), offset)
    return graph.call(torch.clamp, scaled, 0.0, 1.0)


def _embedding(graph: Graph, node: Node, name: str) -> fx.Node:
    axis, table = node.attributes.get("axis", 0), graph.constant(node.inputs[0])
    if table is not None and table.dim() == 2 and axis == 0 and graph.constant(node.inputs[1]) is None:
        layer = _set(nn.Embedding(*table.shape), weight=table)
        return graph.layer(name, layer, graph.of(node.inputs[1]))
    places = graph.weight(node, 1)
    if places.dim() == 0:
        return graph.call(torch.select, graph.of(node.inputs[0]), axis, int(places))
    raise Unconvertible("it gathers what is no table of an embedding")


def _reshape(graph: Graph, node: Node, name: str) -> fx.Node:
    shape = list(graph.shape(node.outputs[0]))
    if shape.count(None) > 1:
        raise Unconvertible("more than one size of it depends on the input")
    return graph.call(
        torch.reshape, graph.of(node.inputs[0]), [-1 if size is None else size for size in shape]
    )


def _transpose(graph: Graph, node: Node, name: str) -> fx.Node:
    order = node.attributes.get("perm") or list(range(len(graph.shape(node.inputs[0]))))[::-1]
    return graph.call(torch.permute, graph.of(node.inputs[0]), order)


def _concat(graph: Graph, node: Node, name: str) -> fx.Node:
    return graph.call(torch.cat, graph.given(node), node.attributes["axis"])


def _axes(graph: Graph, node: Node) -> list[int] | None:
    found: list[int] | None = node.attributes.get("axes")
    return found if found is not None else graph.numbers(node, 1)


def _unsqueeze(graph: Graph, node: Node, name: str) -> fx.Node:
    axes, rank = _axes(graph, node) or [], len(graph.shape(node.inputs[0]))
    found = graph.of(node.inputs[0])
    for axis in sorted(axis % (rank + len(axes)) for axis in axes):
        found = graph.call(torch.unsqueeze, found, axis)
    return found


def _squeeze(graph: Graph, node: Node, name: str) -> fx.Node:
    axes = _axes(graph, node)
    if axes is None:
        raise Unconvertible("its axes are not said")
    return graph.call(torch.squeeze, graph.of(node.inputs[0]), tuple(axes))


def _reduced(function: Callable[..., Any]) -> Rule:
    def rule(graph: Graph, node: Node, name: str) -> fx.Node:
        axes = _axes(graph, node)
        if axes is None:
            raise Unconvertible("its axes are not said")
        return graph.call(
            function, graph.of(node.inputs[0]), axes, keepdim=bool(node.attributes.get("keepdims", 1))
        )

    return rule


def _pad(graph: Graph, node: Node, name: str) -> fx.Node:
    pads, rank = graph.numbers(node, 1) or [], len(graph.shape(node.inputs[0]))
    if node.attributes.get("mode", b"constant") != b"constant" or len(pads) != 2 * rank:
        raise Unconvertible("it pads by other values than one, or not every axis")
    value = float(graph.weight(node, 2)) if len(node.inputs) > 2 and node.inputs[2] else 0.0
    order = [pads[axis + side * rank] for axis in range(rank)[::-1] for side in (0, 1)]
    return graph.call(nn.functional.pad, graph.of(node.inputs[0]), order, value=value)


def _slice(graph: Graph, node: Node, name: str) -> fx.Node:
    starts, ends = graph.numbers(node, 1) or [], graph.numbers(node, 2) or []
    rank = len(graph.shape(node.inputs[0]))
    axes = graph.numbers(node, 3) or list(range(len(starts)))
    steps = graph.numbers(node, 4) or [1] * len(starts)
    if min(steps) < 1:
        raise Unconvertible("it goes backwards")
    cut = {
        axis % rank: slice(start, None if end > 1 << 30 else end, step)
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)
    }
    places = tuple(cut.get(axis, slice(None)) for axis in range(rank))
    return graph.call(operator.getitem, graph.of(node.inputs[0]), places)


def _split(graph: Graph, node: Node, name: str) -> list[fx.Node]:
    axis = node.attributes.get("axis", 0)
    sizes = [graph.shape(made)[axis] for made in node.outputs]
    if None in sizes:
        raise Unconvertible("a size of it depends on the input")
    parts = graph.call(torch.split, graph.of(node.inputs[0]), sizes, axis)
    return [graph.call(operator.getitem, parts, place) for place in range(len(sizes))]


def _cast(graph: Graph, node: Node, name: str) -> fx.Node:
    dtype = _DTYPES.get(node.attributes["to"])
    if dtype is None:
        raise Unconvertible("it casts to another type than float32, int32 or int64")
    return graph.graph.call_method("to", (graph.of(node.inputs[0]), dtype))


def _softmax(kind: type[nn.Module]) -> Rule:
    def rule(graph: Graph, node: Node, name: str) -> fx.Node:
        return graph.layer(name, kind(dim=node.attributes.get("axis", -1)), graph.of(node.inputs[0]))

    return rule


def _layer(make: Callable[[Mapping[str, Any]], nn.Module]) -> Rule:
    """Of an activation, by its attributes."""

    def rule(graph: Graph, node: Node, name: str) -> fx.Node:
        return graph.layer(name, make(node.attributes), graph.of(node.inputs[0]))

    return rule


def _function(function: Callable[..., Any]) -> Rule:
    return lambda graph, node, name: graph.call(function, *graph.given(node))


def _same(graph: Graph, node: Node, name: str) -> fx.Node:
    return graph.of(node.inputs[0])


def _flatten(graph: Graph, node: Node, name: str) -> fx.Node:
    if node.attributes.get("axis", 1) != 1:
        raise Unconvertible("it joins the samples")
    return graph.call(torch.flatten, graph.of(node.inputs[0]), 1)


LOWERED: dict[str, Rule] = {
    "Conv": _conv, "ConvTranspose": _transposed, "Gemm": _gemm, "MatMul": _matmul,
    "BatchNormalization": _batch_norm, "LayerNormalization": _layer_norm, "MaxPool": _pool,
    "AveragePool": _pool, "GlobalAveragePool": _global_pool, "GlobalMaxPool": _global_pool, "Clip": _clip,
    "PRelu": _prelu, "HardSigmoid": _hard_sigmoid, "Gather": _embedding, "Reshape": _reshape,
    "Flatten": _flatten, "Transpose": _transpose, "Concat": _concat, "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze, "ReduceMean": _reduced(torch.mean), "ReduceSum": _reduced(torch.sum),
    "ReduceMax": _reduced(torch.amax), "ReduceMin": _reduced(torch.amin), "Pad": _pad, "Slice": _slice,
    "Split": _split, "Cast": _cast, "Identity": _same, "Dropout": _same,
    "Softmax": _softmax(nn.Softmax), "LogSoftmax": _softmax(nn.LogSoftmax),
    "Relu": _layer(lambda _: nn.ReLU()), "Sigmoid": _layer(lambda _: nn.Sigmoid()),
    "Tanh": _layer(lambda _: nn.Tanh()), "HardSwish": _layer(lambda _: nn.Hardswish()),
    "Mish": _layer(lambda _: nn.Mish()), "Softplus": _layer(lambda _: nn.Softplus()),
    "LeakyRelu": _layer(lambda told: nn.LeakyReLU(told.get("alpha", 0.01))),
    "Elu": _layer(lambda told: nn.ELU(told.get("alpha", 1.0))),
    "Gelu": _layer(lambda told: nn.GELU(told.get("approximate", b"none").decode())),
    "Add": _function(torch.add), "Sub": _function(torch.sub), "Mul": _function(torch.mul),
    "Div": _function(torch.div), "Pow": _function(torch.pow), "Max": _function(torch.maximum),
    "Min": _function(torch.minimum), "Sqrt": _function(torch.sqrt), "Exp": _function(torch.exp),
    "Log": _function(torch.log), "Neg": _function(torch.neg), "Abs": _function(torch.abs),
    "Reciprocal": _function(torch.reciprocal), "Erf": _function(torch.erf), "Sin": _function(torch.sin),
    "Cos": _function(torch.cos), "Floor": _function(torch.floor), "Ceil": _function(torch.ceil),
}  # fmt: skip
