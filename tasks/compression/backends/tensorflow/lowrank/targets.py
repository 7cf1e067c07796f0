"""The layers of a network that can be decomposed, what they cost, and why others cannot be."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.compression.backends.tensorflow.structured.graph import Call, Graph, Shape, kind, trace
from tasks.compression.lowrank.ranks import Size

__all__ = ["Target", "obstacle", "targets", "targets_of"]

_CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv3D")
_DECOMPOSED = ("Dense", *_CONVOLUTIONS)


@dataclass(frozen=True)
class Target:
    """`layer` is the one in the graph, `inner` the one with the kernel: another for TimeDistributed."""

    path: str
    layer: Any
    inner: Any
    size: Size

    @property
    def kernel(self) -> npt.NDArray[np.float32]:
        """[taps..., inputs, outputs]."""
        return np.asarray(self.inner.kernel, np.float32)


def targets(model: Any, paths: Collection[str]) -> list[Target]:
    """Those of the layers at `paths` that can be decomposed, in the order of the model.

    CompressionError unsupported_model as graph.trace.
    """
    return targets_of(trace(model), paths)


def targets_of(graph: Graph, paths: Collection[str]) -> list[Target]:
    """Likewise, of what was traced already."""
    calls: dict[int, list[Call]] = {}
    for call in graph.calls:
        if call.name in paths and obstacle(call.layer) is None and kind(_inner(call.layer)) in _DECOMPOSED:
            calls.setdefault(id(call.layer), []).append(call)
    return [_target(group) for group in calls.values()]


def obstacle(layer: Any) -> str | None:
    """Why a layer with a matrix of weights cannot be decomposed; None where it can, or has none."""
    if not any(len(weight.shape) > 1 for weight in layer.weights):
        return None
    inner = _inner(layer)
    if kind(inner) not in _DECOMPOSED:
        return f"{kind(inner)} layers have no decomposition"
    if kind(inner) in _CONVOLUTIONS and inner.groups > 1:
        return f"it is a convolution in {inner.groups} groups, whose channels do not mix"
    return None


def _inner(layer: Any) -> Any:
    return layer.layer if kind(layer) == "TimeDistributed" else layer


def _target(calls: Sequence[Call]) -> Target:
    """A shared layer is computed at the places of all its calls."""
    layer = calls[0].layer
    inner = _inner(layer)
    places = [_places(call, inner) for call in calls]
    *taps, inputs, outputs = inner.kernel.shape
    size = Size(
        taps=prod(taps),
        inputs=inputs,
        outputs=outputs,
        bias=outputs if inner.use_bias else 0,
        places_in=sum(before for before, _ in places),
        places_out=sum(after for _, after in places),
    )
    return Target(calls[0].name, layer, inner, size)


def _places(call: Call, inner: Any) -> tuple[int, int]:
    before, after = call.inputs[0].shape, call.outputs[0].shape
    steps = 1
    if inner is not call.layer:
        steps, before, after = before[1] or 1, before[:1] + before[2:], after[:1] + after[2:]
    if kind(inner) == "Dense":
        places = steps * _product(before[1:-1])
        return places, places
    sides = slice(2, None) if inner.data_format == "channels_first" else slice(1, -1)
    if None in before[sides] or None in after[sides]:  # Of any size: what counts is how many to one.
        return steps * prod(inner.strides), steps
    return steps * _product(before[sides]), steps * _product(after[sides])


def _product(shape: Shape) -> int:
    return prod(size or 1 for size in shape)
