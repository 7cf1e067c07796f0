"""The layers of a model that is only described, told of as those of one that is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from featherweight.spec import LayerSelection
from tasks.compression.layers import Layers
from tasks.compression.outline.facts import Layer, Outline, Weight
from tasks.compression.planning.state import select

__all__ = ["described", "zero_share"]


@dataclass(frozen=True)
class _Placed:
    layer: Layer

    @property
    def path(self) -> str:
        return self.layer.path

    @property
    def name(self) -> str:
        return self.layer.name


def described(kernels: Callable[[Layer], list[Weight]], kind: Callable[[Layer], str]) -> Layers:
    """Those of outlines, by what a framework says of a layer: the weights that magnitude pruning applies to,
    and what its class is called."""
    return Layers(
        placed=_placed,
        select=_select,
        kernels=kernels,
        has_matrices=lambda layer: any(len(weight.shape) > 1 for weight in layer.weights),
        kind=kind,
        zero_share=zero_share,
    )


def zero_share(weights: Sequence[Weight]) -> float:
    size = sum(weight.size for weight in weights)
    return sum(weight.zeros for weight in weights) / size if size else 0.0


def _placed(outline: Outline) -> Iterator[_Placed]:
    return map(_Placed, outline.listed())


def _select(outline: Outline, selection: LayerSelection, pointer: str) -> list[_Placed]:
    return [_Placed(layer) for layer in select(outline, selection, pointer)]
