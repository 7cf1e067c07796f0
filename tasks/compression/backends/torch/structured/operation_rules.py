"""How channels go through operations: functions, methods, operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tasks.compression.backends.torch.structured.graph import Call, Tensor, tensors_in
from tasks.compression.backends.torch.structured.placing import (
    Rule,
    at,
    carried,
    dimension,
    followed,
    joined,
    mixed_along,
    passed,
    put,
)
from tasks.compression.backends.torch.structured.reshaping import reshaped
from tasks.compression.structured.channels import Channels, Labels
from tasks.compression.structured.flows import Flow, Opaque, Path

__all__ = ["OPERATIONS"]


def _argument(call: Call, place: int, *names: str, default: Any = None) -> Any:
    """By place or by one of its names."""
    if len(call.arguments) > place:
        return call.arguments[place]
    return next((call.keywords[name] for name in names if name in call.keywords), default)


def _axes(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    return tuple(value) if isinstance(value, tuple | list) else (int(value),)


def _reduction(call: Call, inputs: Sequence[Labels], _: Channels) -> Flow:
    tensor, labels = followed(call, inputs)
    axes = _axes(_argument(call, 1, "dim"))
    if axes is None or axes == () or mixed_along(axes, tensor):
        raise Opaque("it mixes the channels")
    return carried(call, labels, _without(axes, tensor, call.outputs[0]))


def _without(axes: Sequence[int], tensor: Tensor, made: Tensor) -> int:
    """Where the channels are once these axes are gone, where they are."""
    assert tensor.axis is not None
    if len(made.shape) == len(tensor.shape):
        return tensor.axis
    gone = {dimension(axis, tensor) for axis in axes}
    return tensor.axis - sum(axis < tensor.axis for axis in gone)


def _softmax(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    tensor, labels = followed(call, inputs)
    axes = _axes(_argument(call, 1, "dim"))
    if mixed_along(axes, tensor):
        channels.keep(labels, at(call, "its softmax mixes the channels"))
    return passed(call, inputs, channels)


def _spatial(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    if followed(call, inputs)[0].axis != 1:
        raise Opaque("it takes another axis for the channels")
    return passed(call, inputs, channels)


def _pad(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    tensor, _ = followed(call, inputs)
    padding = _argument(call, 1, "pad", default=())
    if tensor.axis is None or tensor.axis >= len(tensor.shape) - len(padding) // 2:
        raise Opaque("it pads the channels")
    return passed(call, inputs, channels)


def _concatenation(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    tensors = list(tensors_in(_argument(call, 0, "tensors", default=())))
    axis = dimension(_argument(call, 1, "dim", "axis", default=0), tensors[0])
    places = {tensor.axis for tensor in tensors if tensor.axis is not None}
    if len(places) != 1:
        raise Opaque("it joins tensors whose channels are on different axes")
    (place,) = places
    labelled = [
        _labelled(tensor, labels, place, channels) for tensor, labels in zip(tensors, inputs, strict=True)
    ]
    if axis == place:
        return carried(call, np.concatenate(labelled), axis)
    for labels in labelled[1:]:
        channels.tie(labelled[0], labels)
    return carried(call, labelled[0], place)


def _labelled(tensor: Tensor, labels: Labels, place: int, channels: Channels) -> Labels:
    """Labels along `place`, of a tensor without any too: those stay."""
    if tensor.axis is not None:
        return labels
    made = channels.fresh(tensor.shape[place])
    channels.keep(made, tensor.why)
    return made


def _reshape(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    flow, axis = _moved(call, inputs, channels)
    return Flow(flow.outputs, (), _said(call, axis, flow.outputs[0]))


def _unflatten(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    flow, axis = _moved(call, inputs, channels)
    sizes = _argument(call, 2, "sizes", default=())
    place = axis - dimension(_argument(call, 1, "dim"), call.inputs[0])
    if not 0 <= place < len(sizes) or sizes[place] == -1:
        return flow
    path: Path = ("args", 2, place) if len(call.arguments) > 2 else ("kwargs", "sizes", place)
    return Flow(flow.outputs, (), {path: flow.outputs[0]})


def _flatten(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    return _moved(call, inputs, channels)[0]


def _moved(call: Call, inputs: Sequence[Labels], channels: Channels) -> tuple[Flow, int]:
    tensor, labels = followed(call, inputs)
    assert tensor.axis is not None
    axis, made = reshaped(tensor.shape, tensor.axis, labels, call.outputs[0].shape, channels)
    return carried(call, made, axis), axis


def _said(call: Call, axis: int, labels: Labels) -> dict[Path, Labels]:
    """Where the arguments say the number of channels: in a list of sizes, or one after the other."""
    path: Path
    if not call.arguments[1:]:
        name = next(name for name in ("shape", "size", "sizes") if name in call.keywords)
        path, sizes = ("kwargs", name), call.keywords[name]
    elif isinstance(call.arguments[1], tuple | list):
        path, sizes = ("args", 1), call.arguments[1]
    else:
        return {("args", 1 + axis): labels} if call.arguments[1 + axis] != -1 else {}
    return {(*path, axis): labels} if sizes[axis] != -1 else {}


def _expand(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    tensor, labels = followed(call, inputs)
    assert tensor.axis is not None
    ahead = len(call.outputs[0].shape) - len(tensor.shape)
    axis = tensor.axis + ahead
    if call.outputs[0].shape[axis] != len(labels):
        channels.keep(labels, at(call, "a single channel is spread over many"))
        raise Opaque("a single channel is spread over many")
    flow = carried(call, labels, axis)
    return Flow(flow.outputs, (), _said(call, axis, labels))


def _permutation(call: Call, inputs: Sequence[Labels], _: Channels) -> Flow:
    tensor, labels = followed(call, inputs)
    rest = call.arguments[1:]
    order = rest[0] if rest and isinstance(rest[0], tuple | list) else rest
    order = order or call.keywords.get("dims", ())
    axes = [dimension(axis, tensor) for axis in order]
    return carried(call, labels, axes.index(tensor.axis or 0))


def _transposition(call: Call, inputs: Sequence[Labels], _: Channels) -> Flow:
    tensor, labels = followed(call, inputs)
    one = dimension(_argument(call, 1, "dim0", "axis0"), tensor)
    other = dimension(_argument(call, 2, "dim1", "axis1"), tensor)
    assert tensor.axis is not None
    return carried(call, labels, {one: other, other: one}.get(tensor.axis, tensor.axis))


def _squeeze(call: Call, inputs: Sequence[Labels], _: Channels) -> Flow:
    tensor, labels = followed(call, inputs)
    axes = _axes(_argument(call, 1, "dim"))
    if axes is None:
        axes = tuple(range(len(tensor.shape)))
    gone = [axis for axis in axes if tensor.shape[axis] == 1]
    if mixed_along(gone, tensor):
        raise Opaque("it takes the axis of the channels away")
    return carried(call, labels, _without(gone, tensor, call.outputs[0]))


def _unsqueeze(call: Call, inputs: Sequence[Labels], _: Channels) -> Flow:
    tensor, labels = followed(call, inputs)
    assert tensor.axis is not None
    place = dimension(_argument(call, 1, "dim"), call.outputs[0])
    return carried(call, labels, tensor.axis + (place <= tensor.axis))


def _chunk(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    """Parts of the same size stay so: channel i of one goes with channel i of every other."""
    tensor, labels = followed(call, inputs)
    assert tensor.axis is not None
    if not mixed_along((_argument(call, 2, "dim", default=0),), tensor):
        return Flow(tuple(put(part, labels, tensor.axis) for part in call.outputs))
    if len({part.shape for part in call.outputs}) > 1:
        raise Opaque("it divides the channels into parts of different sizes")
    parts = np.split(labels, len(call.outputs))
    for part in parts[1:]:
        channels.tie(parts[0], part)
    return Flow(tuple(put(out, part, tensor.axis) for out, part in zip(call.outputs, parts, strict=True)))


def _split(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    """As `_chunk`, with the size of the parts written down."""
    tensor, labels = followed(call, inputs)
    size = _argument(call, 1, "split_size_or_sections", "split_size", "split_sizes")
    if not mixed_along((_argument(call, 2, "dim", default=0),), tensor):
        return _chunk(call, inputs, channels)
    if not isinstance(size, int) or len(labels) % size:
        raise Opaque("it divides the channels at places that are fixed")
    flow = _chunk(call, inputs, channels)
    named = next((name for name in call.keywords if name.startswith("split_size")), "")
    path: Path = ("kwargs", named) if named else ("args", 1)
    return Flow(flow.outputs, (), {path: flow.outputs[0]})


def _slice(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    """One axis alone: ATen's ``slice``, ``select``, ``narrow``, ``index_select``."""
    tensor, labels = followed(call, inputs)
    axis = _argument(call, 1, "dim", default=0)
    if mixed_along((axis,), tensor):
        if len(call.outputs[0].shape) == len(tensor.shape) and call.outputs[0].shape == tensor.shape:
            return passed(call, inputs, channels)
        raise Opaque("it takes channels by their numbers")
    return carried(call, labels, _without((axis,), tensor, call.outputs[0]))


def _item(call: Call, inputs: Sequence[Labels], _: Channels) -> Flow:
    """``x[:, 0]`` and the like."""
    tensor, labels = followed(call, inputs)
    index = call.arguments[1]
    entries = list(index) if isinstance(index, tuple | list) else [index]
    if any(isinstance(entry, Tensor | list | tuple) for entry in entries):
        raise Opaque("it takes elements by their numbers")
    if Ellipsis in entries:
        place = entries.index(Ellipsis)
        missing = len(tensor.shape) - sum(entry is not None and entry is not Ellipsis for entry in entries)
        entries[place : place + 1] = [slice(None)] * missing
    axis = made = 0
    for entry in entries:
        if entry is None:
            made += 1
            continue
        if axis == tensor.axis:
            if entry != slice(None):
                raise Opaque("it takes channels by their numbers")
            return carried(call, labels, made)
        axis, made = axis + 1, made + (not isinstance(entry, int))
    assert tensor.axis is not None
    return carried(call, labels, made + tensor.axis - axis)


def _alone(rule: Rule) -> Rule:
    """For operations of one tensor, whatever else they are given."""

    def apply(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
        if len(call.inputs) > 1:
            raise Opaque("channels cannot be followed through it with several tensors")
        return rule(call, inputs, channels)

    return apply


def _each(names: str, rule: Callable[..., Flow]) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


OPERATIONS: dict[str, Rule] = {
    **_each(
        "relu relu6 leaky_relu elu selu celu gelu silu mish sigmoid tanh hardtanh hardswish hardsigmoid "
        "logsigmoid softplus softsign dropout dropout1d dropout2d dropout3d feature_dropout alpha_dropout "
        "abs neg exp log sqrt rsqrt square pow clamp clamp_min clamp_max clip reciprocal sin cos erf "
        "contiguous clone detach alias identity to float",
        _alone(passed),
    ),
    **_each("add sub mul div maximum minimum", joined),
    **_each("mean sum amax amin max min std var logsumexp", _alone(_reduction)),
    **_each("softmax log_softmax softmin", _alone(_softmax)),
    **_each(
        "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d "
        "adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d "
        "max_pool2d_with_indices lp_pool2d interpolate upsample upsample_nearest2d upsample_bilinear2d "
        "upsample_nearest1d upsample_nearest3d upsample_bicubic2d upsample_trilinear3d",
        _alone(_spatial),
    ),
    **_each("pad constant_pad_nd", _alone(_pad)),
    **_each("cat", _concatenation),
    **_each("view reshape", _alone(_reshape)),
    "flatten": _alone(_flatten),
    "unflatten": _alone(_unflatten),
    "expand": _alone(_expand),
    "expand_as": joined,
    "permute": _alone(_permutation),
    "transpose": _alone(_transposition),
    "squeeze": _alone(_squeeze),
    "unsqueeze": _alone(_unsqueeze),
    "chunk": _alone(_chunk),
    **_each("split split_with_sizes", _alone(_split)),
    **_each("slice select narrow", _alone(_slice)),
    "getitem": _item,
}
