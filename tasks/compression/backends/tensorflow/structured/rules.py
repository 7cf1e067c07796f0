"""How channels go through each kind of layer: a table of rules, one for each Keras class.

A rule takes the call, the labels of its inputs and the pool of labels, and answers with a Flow: the
labels of the outputs, the axes of the layer's weights that follow them, and the entries of its config
that are their number. Only exact Keras classes have rules. What has none is Opaque: the channels that
go in and come out are kept, and the report says at which layer.

A removed channel is as good as zero wherever it is *consumed*, that is, enters a kernel that mixes
channels. A rule is right if cutting all its axes leaves every other channel exactly as it was; so
normalisation over channels, or softmax, lets none be removed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tasks.compression.backends.tensorflow.structured.graph import Call, Tensor, is_keras, kind
from tasks.compression.structured.channels import Channels, Labels
from tasks.compression.structured.flows import Axis, Flow, Opaque, Path, Weight

__all__ = ["flow"]

Rule = Callable[[Call, Sequence[Labels], Channels], Flow]


def flow(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    """Apply the layer's rule; Opaque if it has none or does not know the case at hand."""
    rule = _RULES.get(kind(call.layer)) if is_keras(call.layer) else None
    if rule is None:
        raise Opaque("channels cannot be followed through this kind of layer")
    if getattr(call.layer, "data_format", None) == "channels_first":
        raise Opaque("its data format is channels_first")
    return rule(call, inputs, channels)


# Layers that make channels.


def _convolution(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    layer, consumed = call.layer, inputs[0]
    if layer.groups > 1:
        return _grouped_convolution(call, consumed, channels)
    made = channels.fresh(layer.filters)
    _check_activation(layer.activation, made, call, channels)
    kernel = _weight(layer.kernel, {-2: Axis(consumed, "in"), -1: Axis(made, "out")})
    return Flow((made,), (kernel, *_bias(layer, made)), {("filters",): made})


def _grouped_convolution(call: Call, consumed: Labels, channels: Channels) -> Flow:
    """Groups stay equal in size: channel i of one goes with channel i of every other."""
    layer = call.layer
    if layer.groups == len(consumed):
        made = np.repeat(consumed, layer.filters // layer.groups)
        _check_activation(layer.activation, made, call, channels)
        kernel = _weight(layer.kernel, {-1: Axis(made, "depthwise")})
        return Flow((made,), (kernel, *_bias(layer, made)), {("filters",): made, ("groups",): consumed})
    made = channels.fresh(layer.filters)
    _check_activation(layer.activation, made, call, channels)
    for labels in (consumed, made):
        first, *others = labels.reshape(layer.groups, -1)
        for other in others:
            channels.tie(first, other)
    one_group = consumed.reshape(layer.groups, -1)[0]
    kernel = _weight(layer.kernel, {-2: Axis(one_group, "in"), -1: Axis(made, "out")})
    return Flow((made,), (kernel, *_bias(layer, made)), {("filters",): made})


def _transposed_convolution(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    layer = call.layer
    if layer.groups > 1:
        raise Opaque("it is a transposed convolution in groups")
    made = channels.fresh(layer.filters)
    _check_activation(layer.activation, made, call, channels)
    kernel = _weight(layer.kernel, {-2: Axis(made, "out"), -1: Axis(inputs[0], "in")})
    return Flow((made,), (kernel, *_bias(layer, made)), {("filters",): made})


def _separable_convolution(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    layer, consumed = call.layer, inputs[0]
    made = channels.fresh(layer.filters)
    _check_activation(layer.activation, made, call, channels)
    between = np.repeat(consumed, layer.depth_multiplier)
    weights = (
        _weight(layer.depthwise_kernel, {-2: Axis(consumed, "depthwise")}),
        _weight(layer.pointwise_kernel, {-2: Axis(between, "in"), -1: Axis(made, "out")}),
        *_bias(layer, made),
    )
    return Flow((made,), weights, {("filters",): made})


def _dense(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    layer = call.layer
    made = channels.fresh(layer.units)
    _check_activation(layer.activation, made, call, channels)
    kernel = _weight(layer.kernel, {0: Axis(inputs[0], "in"), 1: Axis(made, "out")})
    return Flow((made,), (kernel, *_bias(layer, made)), {("units",): made})


def _embedding(call: Call, _: Sequence[Labels], channels: Channels) -> Flow:
    made = channels.fresh(call.layer.output_dim)
    table = _weight(call.layer.embeddings, {1: Axis(made, "out")})
    return Flow((made,), (table,), {("output_dim",): made})


def _recurrent(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    """A unit's gates are its own; other units see only its output, through the recurrent kernel's rows."""
    layer = call.layer
    consumed, *states = inputs
    made = channels.fresh(layer.units)
    for state in states:
        if len(state) != layer.units:
            raise Opaque("it is called with constants")
        channels.tie(made, state)
    cell = layer.cell
    for activation in (cell.activation, getattr(cell, "recurrent_activation", None)):
        _check_activation(activation, made, call, channels)
    gates = np.tile(made, cell.kernel.shape[1] // layer.units)
    weights = [
        _weight(cell.kernel, {0: Axis(consumed, "in"), 1: Axis(gates, "out")}),
        _weight(cell.recurrent_kernel, {0: Axis(made, "in"), 1: Axis(gates, "out")}),
    ]
    if cell.bias is not None:
        weights.append(_weight(cell.bias, {-1: Axis(gates, "through")}))
    return Flow((made,) * len(call.outputs), tuple(weights), {("units",): made})


def _bidirectional(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    layer = call.layer
    if kind(layer.layer) not in _RECURRENT:
        raise Opaque(f"channels cannot be followed through the {kind(layer.layer)} it wraps")
    half = (len(inputs) - 1) // 2
    one = _recurrent(replace(call, layer=layer.forward_layer), inputs[: 1 + half], channels)
    other = _recurrent(replace(call, layer=layer.backward_layer), [inputs[0], *inputs[1 + half :]], channels)
    forward, backward = one.outputs[0], other.outputs[0]
    sizes: dict[Path, Labels] = {("layer", "config", "units"): forward}
    if hasattr(layer, "_backward_layer_config"):
        sizes["backward_layer", "config", "units"] = backward
        tied = layer.merge_mode not in ("concat", None)
    else:
        tied = True  # Keras makes the backward layer from the forward one's config.
    if tied:
        channels.tie(forward, backward)
    if layer.merge_mode is None:
        merged: tuple[Labels, ...] = (forward, backward)
    elif layer.merge_mode == "concat":
        merged = (np.concatenate([forward, backward]),)
    else:
        merged = (forward,)
    states = (len(call.outputs) - len(merged)) // 2
    ends = (*(forward,) * states, *(backward,) * states)
    return Flow((*merged, *ends), (*one.weights, *other.weights), sizes)


# Layers that treat each channel by itself.


def _pass(_: Call, inputs: Sequence[Labels], __: Channels) -> Flow:
    return Flow((inputs[0],))


def _entrance(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    if inputs:  # of a nested model
        has_size = call.outputs[0].width > 0
        return Flow((inputs[0],), (), {("batch_input_shape", -1): inputs[0]} if has_size else {})
    made = channels.fresh(call.outputs[0].width)
    channels.keep(made, "they are joined to an input of the model")
    return Flow((made,))


def _depthwise_convolution(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    layer, through = call.layer, inputs[0]
    made = np.repeat(through, layer.depth_multiplier)
    _check_activation(layer.activation, made, call, channels)
    kernel = _weight(layer.depthwise_kernel, {-2: Axis(through, "depthwise")})
    return Flow((made,), (kernel, *_bias(layer, made)))


def _activation(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    _check_activation(call.layer.activation, inputs[0], call, channels)
    return Flow((inputs[0],))


def _softmax(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    if _touches_channels(call.layer.axis, call.inputs[0]):
        channels.keep(inputs[0], _at(call, "its softmax mixes the channels"))
    return Flow((inputs[0],))


def _prelu(call: Call, inputs: Sequence[Labels], _: Channels) -> Flow:
    alpha = call.layer.alpha
    if alpha.shape[-1] != len(inputs[0]):
        return Flow((inputs[0],))
    return Flow((inputs[0],), (_weight(alpha, {-1: Axis(inputs[0], "through")}),))


def _batch_normalization(call: Call, inputs: Sequence[Labels], _: Channels) -> Flow:
    layer, through = call.layer, inputs[0]
    if not _touches_channels(layer.axis, call.inputs[0]):
        return Flow((through,))
    if len(layer.axis) > 1:
        raise Opaque("it normalises over several axes")
    return Flow((through,), _per_channel(layer, through))


def _layer_normalization(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    if _touches_channels(call.layer.axis, call.inputs[0]):
        channels.keep(inputs[0], _at(call, "it normalises over the channels, so that each depends on all"))
    return Flow((inputs[0],))


def _group_normalization(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    """Channels of a group share their statistics: only whole groups can go without changing the others."""
    layer, through = call.layer, inputs[0]
    if not _touches_channels(layer.axis, call.inputs[0]):
        raise Opaque("its groups are not of channels")
    columns = through.reshape(layer.groups, -1).T
    for column in columns[1:]:
        channels.tie(columns[0], column)
    return Flow((through,), _per_channel(layer, through), {("groups",): columns[0].copy()})


def _rescaling(call: Call, inputs: Sequence[Labels], _: Channels) -> Flow:
    if np.ndim(call.layer.scale) or np.ndim(call.layer.offset):
        raise Opaque("it scales channels by constants of its config")
    return Flow((inputs[0],))


# Layers that join tensors.


def _join(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    """Element by element, with broadcasting: a single channel may go with many (spatial attention)."""
    if any(len(tensor.shape) < 2 for tensor in call.inputs):
        raise Opaque("it joins tensors without a channel axis")
    widest = max(inputs, key=len)
    for labels in inputs:
        if len(labels) == len(widest):
            channels.tie(widest, labels)
        else:
            channels.keep(labels, _at(call, "a single channel is spread over many"))
    return Flow((widest,))


def _concatenate(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    return _concatenation(call, call.layer.axis, inputs, channels)


def _concatenation(call: Call, axis: Any, inputs: Sequence[Labels], channels: Channels) -> Flow:
    if _touches_channels(axis, call.inputs[0]):
        return Flow((np.concatenate(list(inputs)),))
    for labels in inputs[1:]:
        channels.tie(inputs[0], labels)
    return Flow((inputs[0],))


# Layers that move channels.


def _flatten(call: Call, inputs: Sequence[Labels], _: Channels) -> Flow:
    width = call.outputs[0].width
    if not width or not len(inputs[0]):
        raise Opaque("the size of its input is not known")
    return Flow((np.tile(inputs[0], width // len(inputs[0])),))


def _reshape(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    """Row-major: element k has channel k mod C. If one of the two widths divides the other, the channel after
    follows from the channel before, and all other sizes stay as they are."""
    before, after = len(inputs[0]), call.outputs[0].width
    if not before or not after or (before % after and after % before):
        raise Opaque("its new shape cuts through the channels")
    if after >= before:
        made = np.tile(inputs[0], after // before)
    else:
        first, *others = inputs[0].reshape(-1, after)
        for other in others:
            channels.tie(first, other)
        made = first
    explicit = call.layer.target_shape and call.layer.target_shape[-1] != -1
    return Flow((made,), (), {("target_shape", -1): made} if explicit else {})


def _permute(call: Call, inputs: Sequence[Labels], _: Channels) -> Flow:
    if call.layer.dims[-1] != len(call.layer.dims):
        raise Opaque("it moves the channels to another axis")
    return Flow((inputs[0],))


# Wrappers and operations.


def _time_distributed(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    def step(tensor: Tensor) -> Tensor:
        return replace(tensor, shape=(tensor.shape[0], *tensor.shape[2:]))

    inner = replace(
        call,
        layer=call.layer.layer,
        inputs=tuple(map(step, call.inputs)),
        outputs=tuple(map(step, call.outputs)),
    )
    result = flow(inner, inputs, channels)
    sizes: dict[Path, Labels] = {("layer", "config", *path): made for path, made in result.sizes.items()}
    return replace(result, sizes=sizes)


def _operation(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    """A TensorFlow function called on Keras tensors, such as ``x + y`` or ``tf.nn.relu6(x)``."""
    symbol = call.layer.symbol
    constants = [value for value in _flat(call.arguments, call.keywords) if not _is_symbolic(value)]
    if symbol == "concat":
        axis = call.keywords["axis"] if "axis" in call.keywords else call.arguments[-1]
        return _concatenation(call, axis, inputs, channels)
    if symbol in _REDUCTIONS:
        axis = call.keywords.get("axis", call.arguments[1] if len(call.arguments) > 1 else None)
        if axis is None or _touches_channels(axis, call.inputs[0]):
            raise Opaque(f"{symbol} mixes the channels")
        return Flow((inputs[0],))
    if symbol not in _ELEMENTWISE:
        raise Opaque(f"channels cannot be followed through {symbol or 'this operation'}")
    if any(np.ndim(value) for value in constants):
        raise Opaque("it holds a constant that is not a single number")
    return _join(call, inputs, channels)


# Help.


def _weight(variable: Any, axes: Mapping[int, Axis]) -> Weight:
    rank = len(variable.shape)
    return Weight(variable, {number % rank: axis for number, axis in axes.items()})


def _bias(layer: Any, made: Labels) -> tuple[Weight, ...]:
    return (_weight(layer.bias, {0: Axis(made, "through")}),) if layer.bias is not None else ()


def _per_channel(layer: Any, through: Labels) -> tuple[Weight, ...]:
    gamma = getattr(layer, "gamma", None)
    return tuple(
        _weight(variable, {0: Axis(through, "scale" if variable is gamma else "through")})
        for variable in layer.weights
        if tuple(variable.shape) == through.shape
    )


def _check_activation(activation: Any, made: Labels, call: Call, channels: Channels) -> None:
    """If the activation mixes channels, those it is given are kept."""
    if (reason := _mixes(activation)) is not None:
        channels.keep(made, _at(call, reason))


def _at(call: Call, reason: str) -> str:
    return f"they meet {call.name} ({kind(call.layer)}): {reason}"


def _mixes(activation: Any) -> str | None:
    if activation is None:
        return None
    name = getattr(activation, "__name__", kind(activation))
    module = str(getattr(activation, "__module__", ""))
    if name in _ELEMENTWISE_ACTIVATIONS and module.startswith(("tf_keras.", "tensorflow.")):
        return None
    if name in ("softmax", "log_softmax"):
        return "its softmax mixes the channels"
    return f"its activation {name!r} may mix the channels"


def _touches_channels(axis: Any, tensor: Tensor) -> bool:
    rank = len(tensor.shape)
    axes = axis if isinstance(axis, list | tuple) or np.ndim(axis) else [axis]
    return any(int(one) % rank == rank - 1 for one in axes)


def _flat(*structures: Any) -> list[Any]:
    leaves: list[Any] = []
    for structure in structures:
        if isinstance(structure, Mapping):
            leaves += _flat(*structure.values())
        elif isinstance(structure, list | tuple):
            leaves += _flat(*structure)
        else:
            leaves.append(structure)
    return leaves


def _is_symbolic(value: Any) -> bool:
    return hasattr(value, "_keras_history")


_RECURRENT = ("SimpleRNN", "LSTM", "GRU")

_ELEMENTWISE_ACTIVATIONS = frozenset(
    [
        *("elu", "exponential", "gelu", "hard_sigmoid", "leaky_relu", "linear", "mish", "relu", "relu6"),
        *("selu", "sigmoid", "silu", "softplus", "softsign", "swish", "tanh"),
    ]
)

_ELEMENTWISE = frozenset(
    [
        *("__operators__.add", "math.add", "math.subtract", "math.multiply", "math.divide", "math.truediv"),
        *("math.maximum", "math.minimum", "math.abs", "math.negative", "math.square", "math.sqrt"),
        *(
            "math.exp",
            "math.sigmoid",
            "math.tanh",
            "math.softplus",
            "math.pow",
            "cast",
            "identity",
            "clip_by_value",
        ),
        *("nn.relu", "nn.relu6", "nn.leaky_relu", "nn.elu", "nn.selu", "nn.gelu", "nn.silu", "nn.swish"),
        *("nn.sigmoid", "nn.tanh", "nn.softplus", "nn.softsign", "keras.activations.relu"),
    ]
)

_REDUCTIONS = frozenset(["math.reduce_mean", "math.reduce_sum", "math.reduce_max", "math.reduce_min"])

_RULES: dict[str, Rule] = {
    "InputLayer": _entrance,
    **dict.fromkeys(["Conv1D", "Conv2D", "Conv3D"], _convolution),
    **dict.fromkeys(["Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"], _transposed_convolution),
    **dict.fromkeys(["DepthwiseConv1D", "DepthwiseConv2D"], _depthwise_convolution),
    **dict.fromkeys(["SeparableConv1D", "SeparableConv2D"], _separable_convolution),
    "Dense": _dense,
    "Embedding": _embedding,
    **dict.fromkeys(_RECURRENT, _recurrent),
    "Bidirectional": _bidirectional,
    "TimeDistributed": _time_distributed,
    "Activation": _activation,
    "Softmax": _softmax,
    "PReLU": _prelu,
    **dict.fromkeys(["ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "Identity"], _pass),
    **dict.fromkeys(["Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise"], _pass),
    **dict.fromkeys(["SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"], _pass),
    **dict.fromkeys([f"{pool}Pooling{n}D" for pool in ("Max", "Average") for n in (1, 2, 3)], _pass),
    **dict.fromkeys([f"Global{pool}Pooling{n}D" for pool in ("Max", "Average") for n in (1, 2, 3)], _pass),
    **dict.fromkeys([f"{what}{n}D" for what in ("ZeroPadding", "Cropping") for n in (1, 2, 3)], _pass),
    **dict.fromkeys(["UpSampling1D", "UpSampling2D", "UpSampling3D"], _pass),
    **dict.fromkeys(["RepeatVector", "Resizing", "ActivityRegularization"], _pass),
    "Rescaling": _rescaling,
    **dict.fromkeys(["BatchNormalization", "SyncBatchNormalization"], _batch_normalization),
    "LayerNormalization": _layer_normalization,
    "GroupNormalization": _group_normalization,
    **dict.fromkeys(["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"], _join),
    "Concatenate": _concatenate,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Permute": _permute,
    "TFOpLambda": _operation,
}
