"""What waits, carried out without any training: zeros first, then shared values for the weights left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from featherweight.spec import Prune
from tasks.compression.clusterability import Request, chance, warn_if_nothing_shared
from tasks.compression.clusterable import requests
from tasks.compression.codebook import codebooks, distinct, nearest
from tasks.compression.context import Context
from tasks.compression.layers import Layers, Placed
from tasks.compression.mask_plan import PruningRules, assignments, holds_zeros
from tasks.compression.pending import Sharing
from tasks.compression.samples import Array
from tasks.compression.underway import UnderwayT
from tasks.compression.workspace import LayerNote

__all__ = ["Weights", "carry_out"]


@dataclass(frozen=True)
class Weights:
    """How a framework's weights are changed in place.

    `make_zeros` makes those that a rule of `pruning` asks for at a sparsity; `matrix` has the values of a
    kernel of a layer as [rows, weights that share values], and `share` writes such a matrix into it.
    """

    pruning: PruningRules
    make_zeros: Callable[[Any, float], None]
    matrix: Callable[[Any, Any, Sharing], Array]
    share: Callable[[Any, Any, Sharing, Array], None]

    @property
    def layers(self) -> Layers:
        return self.pruning.layers


def carry_out(network: UnderwayT, context: Context, weights: Weights) -> UnderwayT:
    """Prune to the schedules' final sparsity, then cluster: nothing is pending any more."""
    if any(item.step.summaries for item in network.waiting(Prune)):
        context.warn("summaries_need_training")
    return replace(_share(_prune(network, context, weights), context, weights), pending=())


def _prune(network: UnderwayT, context: Context, weights: Weights) -> UnderwayT:
    pruned = dict(network.pruned)
    for item in assignments(network, context.seed, weights.pruning):
        weights.make_zeros(item.rule, item.target)
        for path, kernels in item.layers.items():
            share = weights.layers.zero_share(kernels)
            context.record.layers[path] = LayerNote(target_sparsity=share)
        pruned |= dict.fromkeys(item.paths, item.target)
    return replace(network, pruned=pruned)


def _share(network: UnderwayT, context: Context, weights: Weights) -> UnderwayT:
    layers = weights.layers
    asked, with_zeros = requests(network, layers), holds_zeros(network, layers)
    for place in layers.placed(network.model):
        if place.path in asked:
            _share_layer(place, asked[place.path], place.path in with_zeros, context, weights)
    return replace(network, shared={**network.shared, **{path: item.sharing for path, item in asked.items()}})


def _share_layer(
    place: Placed, request: Request, with_zeros: bool, context: Context, weights: Weights
) -> None:
    sharing, counts = request.sharing, []
    for index, kernel in enumerate(weights.layers.kernels(place.layer)):
        matrix = weights.matrix(kernel, place.layer, sharing)
        alive = matrix != 0 if with_zeros else np.full(matrix.shape, True)
        seed = chance(context.seed, place.path, index)
        books = codebooks(matrix, alive, sharing.clusters, request.initialization, seed)
        shared = np.array([nearest(row, book) for row, book in zip(matrix, books, strict=True)])
        # Before the kernel is written: the matrix may be its own memory.
        counts.append(distinct(matrix, alive))
        weights.share(kernel, place.layer, sharing, shared * alive)
    warn_if_nothing_shared(place.path, counts, sharing, context)
