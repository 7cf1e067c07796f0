"""The layers of an outline as a table, and what they come to."""

from __future__ import annotations

import math
from collections import Counter

from featherweight.inspection import InspectedLayer, InspectedTensor, InspectedTotals
from tasks.compression.inspection.memory import peak_activation_bytes
from tasks.compression.outline.facts import Layer, Outline, Weight
from tasks.compression.outline.skeleton import Cost

__all__ = ["layer_table", "tensors", "totals"]

_BITS = {"int2": 2, "int4": 4, "bool": 8, "bfloat16": 16, "complex64": 64, "complex128": 128}


def layer_table(outline: Outline, found: Cost) -> list[InspectedLayer]:
    """Every layer that a pattern can name."""
    calls = Counter(call.layer for call in outline.calls)
    made: dict[str, int] = {}
    for call in outline.calls:
        if call.outputs:
            made.setdefault(call.layer, call.outputs[0])
    return [
        InspectedLayer(
            layer=layer.path,
            kind=layer.kind,
            output_shape=_shape(outline, made.get(layer.path)),
            calls=calls[layer.path],
            parameters=layer.parameters,
            nonzero_parameters=layer.nonzero,
            weight_bytes=_layer_bytes(layer),
            dtype="+".join(sorted({weight.dtype for weight in layer.weights})) or None,
            macs=None if layer.path in found.unknown else found.macs.get(layer.path, 0),
        )
        for layer in outline.listed()
    ]


def totals(outline: Outline, found: Cost) -> InspectedTotals:
    return InspectedTotals(
        parameters=outline.parameters,
        nonzero_parameters=sum(layer.nonzero for layer in outline.layers),
        weight_bytes=sum(map(_layer_bytes, outline.layers)),
        macs=None if found.unknown else found.total,
        macs_unknown=sorted(found.unknown),
        macs_assumed=sorted(found.assumed),
        activation_bytes_peak_estimate=peak_activation_bytes(outline),
    )


def tensors(outline: Outline, numbers: tuple[int, ...], names: tuple[str, ...]) -> list[InspectedTensor]:
    """Inputs or outputs; those the file gives no name go by their number."""
    padded = [*names, *(str(place) for place in range(len(names), len(numbers)))]
    return [
        InspectedTensor(name=name, shape=_shape(outline, number))
        for name, number in zip(padded, numbers, strict=False)
    ]


def _shape(outline: Outline, number: int | None) -> list[int | None] | None:
    shape = None if number is None else outline.tensors[number]
    return None if shape is None else list(shape)


def _layer_bytes(layer: Layer) -> int:
    return sum(map(_bytes, layer.weights))


def _bytes(weight: Weight) -> int:
    digits = "".join(char for char in weight.dtype if char.isdigit())
    bits = _BITS.get(weight.dtype) or (int(digits) if digits else 32)
    return math.ceil(weight.size * bits / 8)
