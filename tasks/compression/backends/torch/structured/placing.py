"""What the rules of layers and of operations have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tasks.compression.backends.torch.structured.graph import Call, Tensor, kind
from tasks.compression.structured.channels import Channels, Labels
from tasks.compression.structured.flows import Flow, Opaque

__all__ = ["NONE", "Rule", "at", "carried", "dimension", "followed", "joined", "mixed_along", "passed", "put"]

Rule = Callable[[Call, Sequence[Labels], Channels], Flow]

NONE: Labels = np.empty(0, dtype=np.int64)
"""The labels of a tensor whose channels are not followed."""


def put(tensor: Tensor, labels: Labels, axis: int) -> Labels:
    """The channels of a result are along `axis`."""
    tensor.axis = axis % len(tensor.shape)
    return labels


def passed(call: Call, inputs: Sequence[Labels], _: Channels) -> Flow:
    """Every channel by itself, along the same axis of a result of as many axes."""
    tensor, labels = followed(call, inputs)
    if tensor.axis is None:
        raise Opaque("its input has no channels")
    return carried(call, labels, tensor.axis)


def carried(call: Call, labels: Labels, axis: int) -> Flow:
    """The first result has these channels along `axis`; the others, such as places of maxima, are not
    followed."""
    rest = call.outputs[1:]
    for tensor in rest:
        tensor.why = at(call, "only its first result is followed")
    return Flow((put(call.outputs[0], labels, axis), *(NONE for _ in rest)))


def followed(call: Call, inputs: Sequence[Labels]) -> tuple[Tensor, Labels]:
    """The first input that has channels; without any the first."""
    pairs = list(zip(call.inputs, inputs, strict=True))
    return next((pair for pair in pairs if pair[0].axis is not None), pairs[0])


def dimension(number: int, tensor: Tensor) -> int:
    """An axis, counted from the front."""
    return number % len(tensor.shape)


def mixed_along(axes: Sequence[int] | None, tensor: Tensor) -> bool:
    """Whether what goes along `axes` (None: all of them) mixes the channels."""
    return axes is None or tensor.axis in {dimension(axis, tensor) for axis in axes}


def at(call: Call, reason: str) -> str:
    return f"they meet {call.name} ({kind(call.layer)}): {reason}"


def joined(call: Call, inputs: Sequence[Labels], channels: Channels) -> Flow:
    """Element by element, with broadcasting: axes are aligned at the last. A single channel may go with many
    (spatial attention); what has no channels followed, of as many, lets none be removed."""
    pairs = list(zip(call.inputs, inputs, strict=True))
    carriers = [(tensor, labels) for tensor, labels in pairs if tensor.axis is not None]
    places = {_from_the_end(tensor) for tensor, _ in carriers}
    if len(places) != 1:
        raise Opaque("it joins tensors whose channels are on different axes")
    (place,) = places
    widest = max((labels for _, labels in carriers), key=len)
    for tensor, labels in pairs:
        width = tensor.shape[place] if len(tensor.shape) >= -place else 1
        if tensor.axis is None:
            if width > 1:
                channels.keep(widest, tensor.why)
        elif len(labels) == len(widest):
            channels.tie(widest, labels)
        else:
            channels.keep(labels, at(call, "a single channel is spread over many"))
    size = call.outputs[0].shape[place]
    if size != len(widest):
        channels.keep(widest, at(call, "a single channel is spread over many"))
        raise Opaque("a single channel is spread over many")
    return carried(call, widest, len(call.outputs[0].shape) + place)


def _from_the_end(tensor: Tensor) -> int:
    assert tensor.axis is not None
    return tensor.axis - len(tensor.shape)
