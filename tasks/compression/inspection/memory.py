"""The most memory that activations take at the same time, estimated from the calls of an outline.

As a LiteRT interpreter would hold them for one sample in float32, in the order of the calls: a tensor lives
from the call that makes it to the last that reads it, inputs from the beginning, outputs to the end, each
rounded up to 64 bytes. What only passes its input on when it does not train, and what a converter makes part
of the layer before it, needs no memory of its own. What a layer uses inside (the state of a recurrent one,
the product of an attention) is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from tasks.compression.outline.facts import Call, Layer, Outline

__all__ = ["peak_activation_bytes"]

ALIGNMENT = 64
_FLOAT = 4
_BYTES = {
    **dict.fromkeys(("int2", "int4", "int8", "uint8", "bool"), 1),
    **dict.fromkeys(("int16", "uint16", "float16", "bfloat16"), 2),
    **dict.fromkeys(("int64", "float64"), 8),
}
_PASSES_ON = frozenset(
    [
        *("InputLayer", "Identity", "Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise"),
        *("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "ActivityRegularization"),
        *("RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast"),
        *("RandomBrightness", "RandomHeight", "RandomWidth"),
    ]
)
_NORMALISED = frozenset(["BatchNormalization", "SyncBatchNormalization"])
_FUSED_ACTIVATIONS = frozenset(["relu", "relu6", "linear"])
_MERGED_INTO = frozenset(
    [
        *("Dense", "Conv1D", "Conv2D", "DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D"),
        *("SeparableConv2D", "Add", "Subtract", "Multiply"),
    ]
)


def peak_activation_bytes(outline: Outline) -> int | None:
    """None where a shape is not known or nothing is known of the calls; open sizes count as 1."""
    if not outline.traced or not outline.calls:
        return None
    kept = _aliases(outline)
    sizes: dict[int, int] = {}
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for place, call in enumerate(outline.calls):
        for number in (*call.inputs, *call.outputs):
            tensor = kept.get(number, number)
            made_here = number in call.outputs or number in outline.inputs
            if tensor not in first and not made_here:
                continue  # A constant of the file.
            size = _size(outline, tensor)
            if size is None:
                return None
            sizes[tensor] = size
            first.setdefault(tensor, place)
            last[tensor] = place
    for number in outline.inputs:
        first[number] = 0
    for number in outline.outputs:
        last[kept.get(number, number)] = len(outline.calls) - 1
    return _highest(sizes, first, last)


def _highest(sizes: Mapping[int, int], first: Mapping[int, int], last: Mapping[int, int]) -> int:
    changes: dict[int, int] = {}
    for tensor, size in sizes.items():
        changes[first[tensor]] = changes.get(first[tensor], 0) + size
        changes[last[tensor] + 1] = changes.get(last[tensor] + 1, 0) - size
    alive = most = 0
    for place in sorted(changes):
        alive += changes[place]
        most = max(most, alive)
    return most


def _aliases(outline: Outline) -> dict[int, int]:
    """The tensors that need no memory of their own, each with the one whose memory it has."""
    layers = {layer.path: layer for layer in outline.layers}
    makers = {number: layers[call.layer] for call in outline.calls for number in call.outputs}
    activated: set[int] = set()  # Nothing is merged into a layer after its activation.
    kept: dict[int, int] = {}
    for call in outline.calls:
        if len(call.inputs) != 1 or len(call.outputs) != 1:
            continue
        layer, origin = layers[call.layer], _origin(call, kept)
        maker = makers.get(origin)
        is_open = maker is not None and _takes_more(maker) and origin not in activated
        if layer.kind in _PASSES_ON:
            kept[call.outputs[0]] = origin
        elif is_open and (layer.kind in _NORMALISED or _is_fused(layer)):
            kept[call.outputs[0]] = origin
            if layer.kind not in _NORMALISED:
                activated.add(origin)
    return kept


def _takes_more(maker: Layer) -> bool:
    return maker.kind in _MERGED_INTO and maker.config.get("activation") in (None, "linear")


def _is_fused(layer: Layer) -> bool:
    if layer.kind == "Activation":
        return layer.config.get("activation") in _FUSED_ACTIVATIONS
    return layer.kind == "ReLU"


def _origin(call: Call, kept: Mapping[int, int]) -> int:
    return kept.get(call.inputs[0], call.inputs[0])


def _size(outline: Outline, tensor: int) -> int | None:
    shape = outline.tensors[tensor]
    if shape is None:
        return None
    each = _BYTES.get(outline.types[tensor], _FLOAT) if outline.types else _FLOAT
    bytes_ = math.prod(max(size or 1, 1) for size in shape[1:]) * each
    return -(-bytes_ // ALIGNMENT) * ALIGNMENT
