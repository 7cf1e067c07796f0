"""The layers of a model that is only described, told of as those of one that is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from featherweight.spec import LayerSelection, Prune, XnnpackLatency
from tasks.compression.backends.tensorflow.prunability import (
    KERNELS,
    NOT_FOR_XNNPACK,
    no_pruning,
    obstacle,
)
from tasks.compression.layers import Layers
from tasks.compression.outline.facts import Layer, Outline, Weight
from tasks.compression.planning.state import select
from tasks.compression.prunable import Pruning

__all__ = ["LAYERS", "PRUNING", "kernels", "left_out", "zero_share"]


@dataclass(frozen=True)
class _Placed:
    layer: Layer

    @property
    def path(self) -> str:
        return self.layer.path

    @property
    def name(self) -> str:
        return self.layer.name


def kernels(layer: Layer) -> list[Weight]:
    """The weights of a layer that magnitude pruning applies to."""
    if layer.kind == "MultiHeadAttention":
        return [weight for weight in layer.weights if len(weight.shape) > 2]
    names = KERNELS.get(layer.kind, ())
    return [weight for weight in layer.weights if weight.name in names]


def zero_share(weights: Sequence[Weight]) -> float:
    size = sum(weight.size for weight in weights)
    return sum(weight.zeros for weight in weights) / size if size else 0.0


def left_out(layer: Layer, step: Prune) -> str | None:
    """TFMOT's policy for XNNPACK: 1x1 convolutions alone."""
    if not isinstance(step.pattern, XnnpackLatency) or not kernels(layer):
        return None
    pointwise = layer.kind == "Conv2D" and layer.config.get("kernel_size") == [1, 1]
    return None if pointwise else NOT_FOR_XNNPACK


def _placed(outline: Outline) -> Iterator[_Placed]:
    return map(_Placed, outline.listed())


def _select(outline: Outline, selection: LayerSelection, pointer: str) -> list[_Placed]:
    return [_Placed(layer) for layer in select(outline, selection, pointer)]


LAYERS = Layers(
    placed=_placed,
    select=_select,
    kernels=kernels,
    has_matrices=lambda layer: any(len(weight.shape) > 1 for weight in layer.weights),
    kind=lambda layer: layer.kind,
    zero_share=zero_share,
)

PRUNING = Pruning(layers=LAYERS, no_pruning=no_pruning, obstacle=obstacle, left_out=left_out)
