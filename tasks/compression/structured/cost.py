"""Parameters and multiply-accumulates (MACs), as a framework's rules count them.

The convention of the pruning literature: a MAC is one product added to a sum in a convolution, a dense
or recurrent layer, an einsum or an attention, for one sample. Biases, normalisation, activations,
pooling and element-wise operations are not counted. A transposed convolution uses each element of its
kernel once for every *input* position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from tasks.compression.structured.framework import Call, Framework, Graph, Usage

__all__ = ["LayerCost", "ModelCost", "cost"]


@dataclass(frozen=True)
class LayerCost:
    name: str
    kind: str
    parameters: int
    macs: int


@dataclass(frozen=True)
class ModelCost:
    """`layers` are those with parameters or MACs; `assumed` those whose MACs are counted for sizes that are
    not known, each with what was taken for them."""

    parameters: int
    macs: int
    layers: tuple[LayerCost, ...]
    assumed: Mapping[str, str] = field(default_factory=dict)


def cost(graph: Graph, framework: Framework) -> ModelCost:
    """A shared layer's parameters count once, its MACs at every call."""
    calls: dict[int, list[Any]] = {}
    for call in graph.calls:
        calls.setdefault(id(call.layer), []).append(call)
    layers = [_layer_cost(group, framework) for group in calls.values()]
    return ModelCost(
        parameters=sum(layer.parameters for layer in layers),
        macs=sum(layer.macs for layer in layers),
        layers=tuple(layer for layer in layers if layer.parameters or layer.macs),
        assumed=framework.assumptions(graph),
    )


def _layer_cost(calls: Sequence[Call], framework: Framework) -> LayerCost:
    layer = calls[0].layer
    macs = sum(_macs(framework.uses(call)) for call in calls)
    parameters = sum(prod(variable.shape) for variable in layer.weights)
    return LayerCost(calls[0].name, framework.kind(layer), parameters, macs)


def _macs(usage: Usage) -> int:
    return usage.fixed + sum(times * int(prod(variable.shape)) for variable, times in usage.kernels)
