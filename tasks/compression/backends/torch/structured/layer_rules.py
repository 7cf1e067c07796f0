"""How channels go through PyTorch's layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tasks.compression.backends.torch.structured.graph import Call, Tensor
from tasks.compression.backends.torch.structured.placing import (
    Rule,
    at,
    carried,
    dimension,
    followed,
    mixed_along,
    passed,
    put,
)
from tasks.compression.backends.torch.structured.reshaping import reshaped
from tasks.compression.structured.channels import Channels, Labels
from tasks.compression.structured.flows import Axis, Flow, Opaque, Path, Role, Weight

__all__ = ["LAYERS", "MAKERS"]


def _convolution(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    module: Any = call.layer.module
    _along_first(call)
    if module.groups > 1:
        return _grouped_convolution(call, inputs[0], channels)
    made = put(call.outputs[0], channels.fresh(module.out_channels), 1)
    kernel = _weight(call, "weight", {0: Axis(made, "out"), **_consumed(1, call.inputs[0], inputs[0])})
    sizes = {("out_channels",): made, **_size("in_channels", call.inputs[0], inputs[0])}
    return Flow((made,), (*kernel, *_through(call, "bias", made)), sizes)


def _grouped_convolution(call: Call, consumed: Labels, channels: Channels) -> Flow:
    """Groups stay equal in size: channel i of one goes with channel i of every other."""
    module: Any = call.layer.module
    groups, given = module.groups, call.inputs[0].axis is not None
    if groups == module.in_channels:
        if not given:
            raise Opaque("it treats channels one by one that cannot be followed")
        made = put(call.outputs[0], np.repeat(consumed, module.out_channels // groups), 1)
        kernel = _weight(call, "weight", {0: Axis(made, "depthwise")})
        sizes: dict[Path, Labels] = {
            ("out_channels",): made,
            ("in_channels",): consumed,
            ("groups",): consumed,
        }
        return Flow((made,), (*kernel, *_through(call, "bias", made)), sizes)
    made = put(call.outputs[0], channels.fresh(module.out_channels), 1)
    for labels in (consumed, made) if given else (made,):
        first, *others = labels.reshape(groups, -1)
        for other in others:
            channels.tie(first, other)
    axes = {0: Axis(made, "out")}
    sizes = {("out_channels",): made}
    if given:
        axes[1] = Axis(consumed.reshape(groups, -1)[0], "in")
        sizes["in_channels",] = consumed
    return Flow((made,), (*_weight(call, "weight", axes), *_through(call, "bias", made)), sizes)


def _transposed_convolution(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    module: Any = call.layer.module
    _along_first(call)
    if module.groups > 1:
        raise Opaque("it is a transposed convolution in groups")
    made = put(call.outputs[0], channels.fresh(module.out_channels), 1)
    kernel = _weight(call, "weight", {1: Axis(made, "out"), **_consumed(0, call.inputs[0], inputs[0])})
    sizes = {("out_channels",): made, **_size("in_channels", call.inputs[0], inputs[0])}
    return Flow((made,), (*kernel, *_through(call, "bias", made)), sizes)


def _linear(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    module: Any = call.layer.module
    given = call.inputs[0]
    if given.axis is not None and given.axis != len(given.shape) - 1:
        raise Opaque("it multiplies along another axis than the channels'")
    made = put(call.outputs[0], channels.fresh(module.out_features), -1)
    kernel = _weight(call, "weight", {0: Axis(made, "out"), **_consumed(1, given, inputs[0])})
    sizes = {("out_features",): made, **_size("in_features", given, inputs[0])}
    return Flow((made,), (*kernel, *_through(call, "bias", made)), sizes)


def _embedding(call: Call, _: Sequence[Labels], channels: Channels) -> Flow:
    module: Any = call.layer.module
    if module.max_norm is not None:
        raise Opaque("it scales its rows to a norm of all channels")
    made = put(call.outputs[0], channels.fresh(module.embedding_dim), -1)
    return Flow((made,), _weight(call, "weight", {1: Axis(made, "out")}), {("embedding_dim",): made})


def _batch_normalization(call: Call, inputs: Sequence[Labels], _: Channels) -> Flow:
    _along_first(call)
    through = put(call.outputs[0], inputs[0], 1)
    weights = [
        *_through(call, "weight", through, role="scale"),
        *(
            weight
            for name in ("bias", "running_mean", "running_var")
            for weight in _through(call, name, through)
        ),
    ]
    return Flow((through,), tuple(weights), {("num_features",): through})


def _layer_normalization(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    module: Any = call.layer.module
    tensor = call.inputs[0]
    last = range(-len(module.normalized_shape), 0)
    if mixed_along(tuple(last), tensor):
        channels.keep(inputs[0], at(call, "it normalises over the channels, so that each depends on all"))
    return passed(call, inputs, channels)


def _group_normalization(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    """Channels of a group share their statistics: only whole groups can go without changing the others."""
    module: Any = call.layer.module
    _along_first(call)
    through = put(call.outputs[0], inputs[0], 1)
    columns = through.reshape(module.num_groups, -1).T
    for column in columns[1:]:
        channels.tie(columns[0], column)
    weights = (*_through(call, "weight", through, role="scale"), *_through(call, "bias", through))
    return Flow((through,), weights, {("num_channels",): through, ("num_groups",): columns[0].copy()})


def _prelu(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    module: Any = call.layer.module
    if module.num_parameters == 1:
        return passed(call, inputs, channels)
    _along_first(call)
    through = put(call.outputs[0], inputs[0], 1)
    return Flow((through,), _through(call, "weight", through), {("num_parameters",): through})


def _softmax(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    module: Any = call.layer.module
    if module.dim is None or mixed_along((module.dim,), call.inputs[0]):
        channels.keep(inputs[0], at(call, "its softmax mixes the channels"))
    return passed(call, inputs, channels)


def _spatial(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    """What works on the axes after the channels'."""
    _along_first(call)
    return passed(call, inputs, channels)


def _flatten(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    tensor, labels = followed(call, inputs)
    assert tensor.axis is not None
    axis, made = reshaped(tensor.shape, tensor.axis, labels, call.outputs[0].shape, channels)
    return carried(call, made, axis)


def _unflatten(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    module: Any = call.layer.module
    flow = _flatten(call, inputs, channels)
    place = (call.outputs[0].axis or 0) - dimension(int(module.dim), call.inputs[0])
    if 0 <= place < len(module.unflattened_size) and module.unflattened_size[place] != -1:
        return Flow(flow.outputs, (), {("unflattened_size", place): flow.outputs[0]})
    return flow


def _recurrent(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    """A unit's gates are its own; other units see only its output, through the recurrent weights' columns.
    The same for the layers of a stack, each of which reads the one below."""
    module: Any = call.layer.module
    if getattr(module, "proj_size", 0):
        raise Opaque("it projects its states")
    if len(call.inputs) > 1:
        raise Opaque("it is called with states")
    if call.inputs[0].axis not in (None, len(call.inputs[0].shape) - 1):
        raise Opaque("it reads another axis than the channels'")
    directions = 2 if module.bidirectional else 1
    made = channels.fresh(module.hidden_size)
    below, weights = inputs[0], []
    given = call.inputs[0].axis is not None
    for level in range(module.num_layers):
        for way in ("", "_reverse")[:directions]:
            weights += _gates(call, f"_l{level}{way}", made, below if given or level else None)
        below = np.tile(made, directions)
    for tensor in call.outputs:
        put(tensor, made, -1)
    outputs = (below, *(made for _ in call.outputs[1:]))
    sizes: dict[Path, Labels] = {("hidden_size",): made}
    return Flow(outputs, tuple(weights), sizes | _size("input_size", call.inputs[0], inputs[0]))


def _gates(call: Call, suffix: str, made: Labels, below: Labels | None) -> list[Weight]:
    """Of a layer in one direction. All layers and directions have the same units, their one size says so."""
    reading = call.layer.of(f"weight_ih{suffix}")
    assert reading is not None
    gates = np.tile(made, reading.shape[0] // len(made))
    consumed = {} if below is None else {1: Axis(below, "in")}
    return [
        *_weight(call, f"weight_ih{suffix}", {0: Axis(gates, "out"), **consumed}),
        *_weight(call, f"weight_hh{suffix}", {0: Axis(gates, "out"), 1: Axis(made, "in")}),
        *_through(call, f"bias_ih{suffix}", gates),
        *_through(call, f"bias_hh{suffix}", gates),
    ]


def _along_first(call: Call) -> None:
    if call.inputs[0].axis not in (None, 1):
        raise Opaque("it takes another axis for the channels")


def _weight(call: Call, name: str, axes: Mapping[int, Axis]) -> tuple[Weight, ...]:
    variable = call.layer.of(name)
    return () if variable is None else (Weight(variable, axes),)


def _through(call: Call, name: str, labels: Labels, role: Role = "through") -> tuple[Weight, ...]:
    return _weight(call, name, {0: Axis(labels, role)})


def _consumed(number: int, tensor: Tensor, labels: Labels) -> dict[int, Axis]:
    return {} if tensor.axis is None else {number: Axis(labels, "in")}


def _size(name: str, tensor: Tensor, labels: Labels) -> dict[Path, Labels]:
    return {} if tensor.axis is None else {(name,): labels}


def _named(names: Sequence[str], rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys(names, rule)


def _of_ranks(names: Sequence[str], rule: Rule) -> dict[str, Rule]:
    return {f"{name}{rank}d": rule for name in names for rank in (1, 2, 3)}


_ELEMENTWISE = (
    *("ReLU", "ReLU6", "LeakyReLU", "RReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Sigmoid"),
    *("Tanh", "Hardtanh", "Hardswish", "Hardsigmoid", "Hardshrink", "Softshrink", "Tanhshrink", "LogSigmoid"),
    *("Softplus", "Softsign", "Threshold", "Identity", "Dropout", "AlphaDropout"),
)
_SPATIAL = ("MaxPool", "AvgPool", "LPPool", "AdaptiveAvgPool", "AdaptiveMaxPool", "ZeroPad", "ReflectionPad")

MAKERS: dict[str, Rule] = {
    **_of_ranks(["Conv"], _convolution),
    **_of_ranks(["ConvTranspose"], _transposed_convolution),
    "Linear": _linear,
    "Embedding": _embedding,
    **_named(["RNN", "LSTM", "GRU"], _recurrent),
}
"""Those that make channels, whatever they are given."""

LAYERS: dict[str, Rule] = {
    **MAKERS,
    **_of_ranks(["BatchNorm", "InstanceNorm"], _batch_normalization),
    **_of_ranks([*_SPATIAL, "ReplicationPad", "ConstantPad", "CircularPad"], _spatial),
    **_of_ranks(["Dropout"], passed),
    **_named(["Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d"], _spatial),
    **_named(_ELEMENTWISE, passed),
    "SyncBatchNorm": _batch_normalization,
    "LayerNorm": _layer_normalization,
    "GroupNorm": _group_normalization,
    "PReLU": _prelu,
    **_named(["Softmax", "LogSoftmax", "Softmin"], _softmax),
    "Flatten": _flatten,
    "Unflatten": _unflatten,
}
