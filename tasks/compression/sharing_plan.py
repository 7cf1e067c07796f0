"""What a training does about values that weights share: from when, how many, and what is said of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from tasks.compression.assignments import note_outcome, settled_pruning
from tasks.compression.at_once import Weights
from tasks.compression.clusterability import chance, warn_if_nothing_shared
from tasks.compression.clusterable import requests
from tasks.compression.codebook import Initialization, distinct
from tasks.compression.context import Context
from tasks.compression.layers import Placed
from tasks.compression.mask_plan import MaskPlan, steps_of
from tasks.compression.pending import Sharing
from tasks.compression.underway import Underway, UnderwayT

__all__ = ["Latent", "SharingPlan", "Terms"]

MOVE_EVERY = 50
MOVES = 20
"""Optimiser steps between two of Lloyd's rounds: the latent weights hardly change their places in fewer. In
a short training they are fewer all the same, so that the values move."""


@dataclass(frozen=True)
class Terms:
    """How a kernel's weights are to share values after `begin` optimiser steps."""

    sharing: Sharing
    initialization: Initialization
    begin: int
    seed: Sequence[int]


class Latent(Protocol):
    """A kernel trained with latent values, of which a mask may hide some."""

    @property
    def latent(self) -> Any: ...
    @property
    def mask(self) -> Any: ...


class SharingPlan:
    """Of a training of `steps` optimiser steps that follows the plan `masks`.

    `asked` is what pending cluster steps ask of layers, `kept` how others share values already; `masked` are
    the layers in which zeros are made or kept. After `pruned` steps no more zeros come, and after `settled`
    nothing is new; codebooks move every `move_every` steps.
    """

    def __init__(
        self, network: Underway, masks: MaskPlan, steps: int, context: Context, weights: Weights
    ) -> None:
        self.asked = requests(network, weights.layers)
        self.kept = {path: item for path, item in network.shared.items() if path not in self.asked}
        self.masked = {*masks.paths, *network.pruned}
        self.pruned = settled_pruning(steps_of(network), steps)
        self.move_every = max(1, min(MOVE_EVERY, steps // MOVES))
        self._begins = {path: math.floor(item.begin * steps) for path, item in self.asked.items()}
        self.settled = max([self.pruned, *(begin + 1 for begin in self._begins.values())])
        self._seed = context.seed
        self._weights = weights

    def terms(self, place: Placed, index: int, kernel: Any) -> Terms | None:
        """Of a layer's kernel, the one of that index. Values shared already are as many as they are, and
        shared all along."""
        path = place.path
        seed = chance(self._seed, path, index)
        request, kept = self.asked.get(path), self.kept.get(path)
        if request is not None:
            return Terms(request.sharing, request.initialization, self._begins[path], seed)
        if kept is None:
            return None
        matrix = self._weights.matrix(kernel, place.layer, kept)
        alive = matrix != 0 if path in self.masked else np.full(matrix.shape, True)
        return Terms(Sharing(distinct(matrix, alive), kept.per_channel), "linear", 0, seed)

    def outcome(
        self,
        network: UnderwayT,
        masks: MaskPlan,
        taken: int,
        context: Context,
        kernels: Mapping[str, Sequence[Latent]],
    ) -> UnderwayT:
        """`network` after `taken` optimiser steps, with what is noted for later steps; what the caller should
        know is said. `kernels` are those of the layers, by path."""
        layers = self._weights.layers
        note_outcome(masks.assignments, taken, context, layers.zero_share)
        for place in layers.placed(network.model):
            if place.path in self.asked:
                self._remark(place, kernels[place.path], context)
        shared = {path: item.sharing for path, item in self.asked.items()}
        return replace(
            network, pruned={**network.pruned, **masks.targets}, shared={**network.shared, **shared}
        )

    def _remark(self, place: Placed, kernels: Sequence[Latent], context: Context) -> None:
        sharing = self.asked[place.path].sharing
        counts = []
        for kernel in kernels:
            matrix = self._weights.matrix(kernel.latent, place.layer, sharing)
            alive = np.full(matrix.shape, True)
            if kernel.mask is not None:
                alive = self._weights.matrix(kernel.mask, place.layer, sharing) > 0
            counts.append(distinct(matrix, alive))
        warn_if_nothing_shared(place.path, counts, sharing, context)
