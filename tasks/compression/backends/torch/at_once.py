"""What waits, carried out without any training: zeros first, then shared values for the weights left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from featherweight.spec import Prune
from tasks.compression.backends.torch._framework import torch
from tasks.compression.backends.torch.clusterable import requests
from tasks.compression.backends.torch.layers import Placed, kernels, placed_layers, zero_share
from tasks.compression.backends.torch.layouts import from_rows, layout_of, rows
from tasks.compression.backends.torch.masks import assignments, holds_zeros
from tasks.compression.backends.torch.network import Network
from tasks.compression.clusterability import Request, chance, warn_if_nothing_shared
from tasks.compression.codebook import codebooks, distinct, nearest
from tasks.compression.context import Context
from tasks.compression.workspace import LayerNote

__all__ = ["carry_out"]


def carry_out(network: Network, context: Context) -> Network:
    """Prune to the schedules' final sparsity, then cluster: nothing is pending any more."""
    if any(item.step.summaries for item in network.waiting(Prune)):
        context.warn("summaries_need_training")
    with torch.no_grad():
        return replace(_share(_prune(network, context), context), pending=())


def _prune(network: Network, context: Context) -> Network:
    pruned = dict(network.pruned)
    for item in assignments(network, context.seed):
        for weight, stays in zip(item.rule.weights, item.rule.masks(item.target), strict=True):
            weight.masked_fill_(~stays, 0.0)
        for path, weights in item.layers.items():
            context.record.layers[path] = LayerNote(target_sparsity=zero_share(weights))
        pruned |= dict.fromkeys(item.paths, item.target)
    return replace(network, pruned=pruned)


def _share(network: Network, context: Context) -> Network:
    asked, with_zeros = requests(network), holds_zeros(network)
    for place in placed_layers(network.model):
        if place.path in asked:
            _share_layer(place, asked[place.path], place.path in with_zeros, context)
    return replace(network, shared={**network.shared, **{path: item.sharing for path, item in asked.items()}})


def _share_layer(place: Placed, request: Request, with_zeros: bool, context: Context) -> None:
    sharing, counts = request.sharing, []
    for index, kernel in enumerate(kernels(place.layer)):
        layout = layout_of(place.layer, kernel)
        matrix = rows(kernel, layout, sharing).numpy()
        alive = matrix != 0 if with_zeros else np.full(matrix.shape, True)
        seed = chance(context.seed, place.path, index)
        books = codebooks(matrix, alive, sharing.clusters, request.initialization, seed)
        shared = np.array([nearest(row, book) for row, book in zip(matrix, books, strict=True)])
        counts.append(distinct(matrix, alive))
        kernel.copy_(from_rows(torch.from_numpy(shared * alive), kernel, layout, sharing))
    warn_if_nothing_shared(place.path, counts, sharing, context)
