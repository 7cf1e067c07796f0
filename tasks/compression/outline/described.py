"""Operations of an outline in the words that reports tell layers in."""

from __future__ import annotations

from math import prod

from tasks.compression.facts import LayerFacts
from tasks.compression.outline.facts import Layer, Outline
from tasks.compression.outline.operations import kernel

__all__ = ["described"]


def described(outline: Outline) -> list[LayerFacts]:
    """Those with weights, of a network whose layers are operations."""
    return [_facts(layer) for layer in outline.layers if layer.weights]


def _facts(layer: Layer) -> LayerFacts:
    weights = kernel(layer)
    counted = (weights,) if weights is not None else layer.weights
    size = sum(weight.size for weight in counted)
    zeros = sum(weight.zeros for weight in counted)
    return LayerFacts(
        name=layer.path,
        kind=layer.kind,
        parameters=layer.parameters,
        nonzero=layer.nonzero,
        sparsity=zeros / size if size else 0.0,
        prunable=weights is not None,
        shape=max((weight.shape for weight in layer.weights), key=prod),
    )
