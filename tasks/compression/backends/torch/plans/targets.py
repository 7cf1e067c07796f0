"""Which layers of an outline can be decomposed, and what they cost."""

from __future__ import annotations

from collections.abc import Collection
from math import prod

from tasks.compression.lowrank.ranks import Size
from tasks.compression.outline.facts import Call, Layer, Outline
from tasks.compression.planning.kinds import Decomposable

__all__ = ["decomposable"]

_DECOMPOSED = frozenset({"Linear", "Conv1d", "Conv2d", "Conv3d"})


def decomposable(outline: Outline, paths: Collection[str]) -> Decomposable:
    """Of the layers at `paths`, in the order of the network."""
    layers = {layer.path: layer for layer in outline.listed() if layer.path in paths}
    calls: dict[str, list[Call]] = {}
    for call in outline.calls:
        if call.layer in layers:
            calls.setdefault(call.layer, []).append(call)
    obstacles = {path: why for path, layer in layers.items() if (why := _obstacle(layer)) is not None}
    sizes = {
        path: _size(outline, layers[path], group)
        for path, group in calls.items()
        if layers[path].kind in _DECOMPOSED and path not in obstacles
    }
    return Decomposable(sizes, obstacles)


def _obstacle(layer: Layer) -> str | None:
    if not any(len(weight.shape) > 1 for weight in layer.weights):
        return None
    if layer.kind not in _DECOMPOSED:
        return f"{layer.kind} layers have no decomposition"
    groups = int(layer.config.get("groups", 1))
    if layer.kind != "Linear" and groups > 1:
        return f"it is a convolution in {groups} groups, whose channels do not mix"
    return None


def _size(outline: Outline, layer: Layer, calls: list[Call]) -> Size:
    """A layer called several times is computed at the places of all its calls."""
    weight = layer.weight("weight")
    assert weight is not None
    outputs, inputs, *taps = weight.shape
    return Size(
        taps=prod(taps),
        inputs=inputs,
        outputs=outputs,
        bias=0 if layer.weight("bias") is None else outputs,
        places_in=sum(_places(outline, call.inputs[0], inputs) for call in calls),
        places_out=sum(_places(outline, call.outputs[0], outputs) for call in calls),
    )


def _places(outline: Outline, number: int, width: int) -> int:
    """How many vectors of that width one sample has."""
    return prod(size or 1 for size in (outline.tensors[number] or ())[1:]) // width
