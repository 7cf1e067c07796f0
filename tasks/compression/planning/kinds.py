"""What plans have to know of a framework's layers, by the names of their classes and weights."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import cast

from featherweight.spec import Prune
from tasks.compression.layers import Layers
from tasks.compression.lowrank.ranks import Size
from tasks.compression.outline.facts import Layer, Outline, Weight
from tasks.compression.prunable import Pruning

__all__ = ["Decomposable", "Kinds", "kinds_of"]


@dataclass(frozen=True)
class Decomposable:
    """Of some layers by their paths: the sizes of those that can be decomposed, and why others with a matrix
    cannot be."""

    sizes: Mapping[str, Size]
    obstacles: Mapping[str, str]


@dataclass(frozen=True)
class Kinds:
    """`pruning` is what layers bear, as outlines describe them. `channels` is how many output channels a
    kernel of a layer has. `check` raises
    CompressionError for a prune step that no model of the framework can have. `nested_features` says whether
    distillation matches outputs inside of models within the model; `normalisations` are the classes that
    freeze_batch_norm is about. `decomposable` tells of the layers at some paths what can become of them."""

    pruning: Pruning
    channels: Callable[[Layer, Weight], int]
    check: Callable[[Prune, str], None]
    nested_features: bool
    normalisations: frozenset[str]
    decomposable: Callable[[Outline, Collection[str]], Decomposable]

    @property
    def layers(self) -> Layers:
        return self.pruning.layers

    def kernels(self, layer: Layer) -> Sequence[Weight]:
        """The weights of a layer that pruning and clustering apply to."""
        return self.layers.kernels(layer)


def kinds_of(outline: Outline) -> Kinds:
    """Those of the framework the model is of."""
    module = import_module(f"tasks.compression.backends.{outline.framework}.plans.kinds")
    return cast(Kinds, module.KINDS)
