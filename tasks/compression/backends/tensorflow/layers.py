"""The layers of a model: their paths, their prunable weights, and which a pattern selects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from featherweight.spec import LayerSelection
from tasks.compression.backends.tensorflow._framework import keras
from tasks.compression.facts import LayerFacts
from tasks.compression.layers import Layers
from tasks.compression.selection import select_from

__all__ = [
    "LAYERS",
    "Placed",
    "copied",
    "describe",
    "has_matrices",
    "kernels",
    "placed_layers",
    "select",
    "zero_share",
]


@dataclass(frozen=True)
class Placed:
    """A layer and its path: its name, after those of the models it is nested in (``encoder/dense``)."""

    path: str
    layer: Any

    @property
    def name(self) -> str:
        return str(self.layer.name)


def placed_layers(model: Any, prefix: str = "") -> Iterator[Placed]:
    """Every layer that is no model itself, in order; a layer used twice comes once."""
    seen: set[int] = set()
    for layer in model.layers:
        path = f"{prefix}{layer.name}"
        if isinstance(layer, keras.Model):
            yield from placed_layers(layer, f"{path}/")
        elif id(layer) not in seen:
            seen.add(id(layer))
            yield Placed(path, layer)


def kernels(layer: Any) -> list[Any]:
    """The weights of a layer that magnitude pruning applies to, as TFMOT's registry has them."""
    from tensorflow_model_optimization.python.core.sparsity.keras.prune_registry import PruneRegistry

    if not PruneRegistry.supports(layer):
        return []
    found: list[Any] = PruneRegistry.make_prunable(layer).get_prunable_weights()
    return found


def has_matrices(layer: Any) -> bool:
    """Whether any weight has more than one axis."""
    return any(len(weight.shape) > 1 for weight in layer.weights)


def zero_share(weights: Sequence[Any]) -> float:
    """The share of exact zeros in all of `weights` together."""
    values = [weight.numpy() for weight in weights]
    size = sum(value.size for value in values)
    return (size - sum(int(np.count_nonzero(value)) for value in values)) / size if size else 0.0


def copied(model: Any) -> Any:
    """A model like `model` with weights of its own."""
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    return clone


def describe(model: Any) -> list[LayerFacts]:
    return [_facts(place) for place in placed_layers(model) if place.layer.weights]


def select(model: Any, selection: LayerSelection, pointer: str) -> list[Placed]:
    """The layers `selection` names, by path or by bare name.

    Raises CompressionError layer_not_found for a pattern that matches none; `pointer` is that of the
    selection in the spec.
    """
    return select_from(
        placed_layers(model), selection, pointer, weighted=lambda place: bool(place.layer.weights)
    )


def _facts(place: Placed) -> LayerFacts:
    layer = place.layer
    prunable = kernels(layer)
    sizes = [int(np.prod(weight.shape)) for weight in layer.weights]
    return LayerFacts(
        name=place.path,
        kind=type(layer).__name__,
        parameters=sum(sizes),
        nonzero=sum(int(np.count_nonzero(weight.numpy())) for weight in layer.weights),
        sparsity=zero_share(prunable or layer.weights),
        prunable=bool(prunable),
        shape=max((tuple(weight.shape) for weight in layer.weights), key=prod),
    )


LAYERS = Layers(
    placed=placed_layers,
    select=select,
    kernels=kernels,
    has_matrices=has_matrices,
    kind=lambda layer: type(layer).__name__,
    zero_share=zero_share,
)
