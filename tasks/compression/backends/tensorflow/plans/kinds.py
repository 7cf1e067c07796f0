"""Keras' layers, for plans."""

from __future__ import annotations

import math
from collections.abc import Collection

from featherweight.spec import Prune, XnnpackLatency
from tasks.compression.backends.tensorflow.lowrank.targets import obstacle as undecomposable
from tasks.compression.backends.tensorflow.lowrank.targets import targets_of
from tasks.compression.backends.tensorflow.prunability import (
    KERNELS,
    NOT_FOR_XNNPACK,
    TRANSPOSED_KINDS,
    no_pruning,
    obstacle,
)
from tasks.compression.outline.facts import Layer, Outline, Weight
from tasks.compression.outline.skeleton import graph_of
from tasks.compression.planning.kinds import Decomposable, Kinds
from tasks.compression.planning.layers import described
from tasks.compression.prunable import Pruning

__all__ = ["KINDS"]


def _kernels(layer: Layer) -> list[Weight]:
    if layer.kind == "MultiHeadAttention":
        return [weight for weight in layer.weights if len(weight.shape) > 2]
    names = KERNELS.get(layer.kind, ())
    return [weight for weight in layer.weights if weight.name in names]


def _left_out(layer: Layer, step: Prune) -> str | None:
    """TFMOT's policy for XNNPACK: 1x1 convolutions alone."""
    if not isinstance(step.pattern, XnnpackLatency) or not _kernels(layer):
        return None
    pointwise = layer.kind == "Conv2D" and layer.config.get("kernel_size") == [1, 1]
    return None if pointwise else NOT_FOR_XNNPACK


def _channels(layer: Layer, weight: Weight) -> int:
    shape = weight.shape
    return math.prod(shape[-2:-1]) if layer.kind in TRANSPOSED_KINDS else shape[-1]


def _anything(step: Prune, pointer: str) -> None:
    """Whether XNNPACK's kernels can run a model depends on the model."""


def _decomposable(outline: Outline, paths: Collection[str]) -> Decomposable:
    graph = graph_of(outline)
    layers = {call.name: call.layer for call in graph.calls if call.name in paths}
    obstacles = {path: why for path, layer in layers.items() if (why := undecomposable(layer)) is not None}
    return Decomposable({target.path: target.size for target in targets_of(graph, paths)}, obstacles)


KINDS = Kinds(
    pruning=Pruning(
        layers=described(_kernels, lambda layer: layer.kind),
        no_pruning=no_pruning,
        obstacle=obstacle,
        left_out=_left_out,
    ),
    channels=_channels,
    check=_anything,
    nested_features=False,
    normalisations=frozenset({"BatchNormalization", "SyncBatchNormalization"}),
    decomposable=_decomposable,
)
