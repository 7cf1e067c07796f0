"""Shared values while a training runs, and the zeros with them: the part that projects latent weights.

Pruning that goes along follows its schedule on the latent weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tasks.compression.assignments import Assignment, note_outcome, settled_pruning
from tasks.compression.backends.torch._framework import fx, torch
from tasks.compression.backends.torch.clusterable import requests
from tasks.compression.backends.torch.layers import Placed, placed_layers, zero_share
from tasks.compression.backends.torch.layouts import layout_of, named_kernels, rows
from tasks.compression.backends.torch.masks import masked_share, planned, steps_of
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.rules import Rule
from tasks.compression.backends.torch.shared_kernel import SharedKernel, Terms
from tasks.compression.backends.torch.training_parts import State, TrainingPart
from tasks.compression.clusterability import chance, warn_if_nothing_shared
from tasks.compression.codebook import distinct
from tasks.compression.context import Context
from tasks.compression.mask_updates import update_at
from tasks.compression.pending import Sharing

__all__ = ["Projection"]

MOVE_EVERY = 50
MOVES = 20
"""Optimiser steps between two of Lloyd's rounds: the latent weights hardly change their places in fewer. In
a short training they are fewer all the same, so that the values move."""


class Projection(TrainingPart):
    """Carries out the pending prune and cluster steps together, and keeps the zeros and the shared values
    that are there already. `zeros` says whether there are any of the first."""

    def __init__(self, network: Network, steps: int, context: Context) -> None:
        self._plan = planned(network, steps, context)
        self._asked = requests(network)
        self._kept = {path: item for path, item in network.shared.items() if path not in self._asked}
        self._masked = {*self._plan.paths, *network.pruned}
        self.zeros = bool(self._masked)
        self._seed = context.seed
        self._steps = steps
        self._begins = {path: math.floor(item.begin * steps) for path, item in self._asked.items()}
        self._pruned = settled_pruning(steps_of(network), steps)
        self.settled = max([self._pruned, *(begin + 1 for begin in self._begins.values())])
        self._move_every = max(1, min(MOVE_EVERY, steps // MOVES))
        self._layers: dict[str, list[SharedKernel]] = {}
        self._kernels: dict[int, SharedKernel] = {}
        self._own: list[list[torch.Tensor]] = []

    def trained(self, weight: torch.Tensor) -> torch.Tensor:
        """The parameter that is trained for a weight of the network: itself, where nothing stands for it."""
        return weight

    def begin(self, model: fx.GraphModule) -> None:
        places = {place.path: place for place in placed_layers(model)}
        for path in dict.fromkeys([*self._plan.paths, *self._asked, *self._kept]):
            self._layers[path] = self._projected(places[path])
        # From here on the rules rank latent weights.
        self._own = [item.rule.weights for item in self._plan.assignments]
        for item in self._plan.assignments:
            item.rule.weights = [kernel.latent for kernel in self._of(item)]
        self._project(0)

    def after_step(self, step: int) -> None:
        for kernel in self._kernels.values():
            kernel.absorb()
        self._project(step)

    def sparsity(self) -> float | None:
        return masked_share(item.mask for item in self._kernels.values() if item.mask is not None)

    def summary(self) -> Mapping[str, float]:
        values = {}
        for kernel in self._kernels.values():
            if kernel.mask is not None:
                left = kernel.latent[kernel.mask].abs()
                values[f"{kernel.name}/mask/sparsity"] = masked_share([kernel.mask]) or 0.0
                values[f"{kernel.name}/mask/threshold"] = float(left.min()) if left.numel() else 0.0
        return values

    def state_dict(self) -> State:
        return {
            f"{kernel.name}/{name}": value
            for kernel in self._kernels.values()
            for name, value in kernel.state().items()
        }

    def load_state_dict(self, state: State) -> None:
        for kernel in self._kernels.values():
            start = f"{kernel.name}/"
            kernel.resume(
                {
                    name.removeprefix(start): value
                    for name, value in state.items()
                    if name.startswith(start) and isinstance(value, torch.Tensor)
                }
            )

    def unwrap(self, model: fx.GraphModule) -> fx.GraphModule:
        for item, weights in zip(self._plan.assignments, self._own, strict=True):
            item.rule.weights = weights
        return model

    def outcome(self, network: Network, taken: int, context: Context) -> Network:
        note_outcome(self._plan.assignments, taken, context, zero_share)
        for place in placed_layers(network.model):
            if place.path in self._asked:
                self._remark(place, self._asked[place.path].sharing, context)
        shared = {path: item.sharing for path, item in self._asked.items()}
        return replace(
            network,
            pruned={**network.pruned, **self._plan.targets},
            shared={**network.shared, **shared},
        )

    def _projected(self, place: Placed) -> list[SharedKernel]:
        """The kernels of a layer; one that an earlier layer has too is projected as that layer says."""
        found = []
        for index, (name, weight) in enumerate(named_kernels(place)):
            if id(weight) not in self._kernels:
                self._kernels[id(weight)] = SharedKernel(
                    name,
                    self.trained(weight),
                    layout_of(place.layer, weight),
                    masked=place.path in self._masked,
                    terms=self._terms(place, index, weight),
                )
            found.append(self._kernels[id(weight)])
        return found

    def _terms(self, place: Placed, index: int, weight: torch.Tensor) -> Terms | None:
        """Of a kernel of a layer. Values shared already are as many as they are, and shared all along."""
        seed = chance(self._seed, place.path, index)
        request, kept = self._asked.get(place.path), self._kept.get(place.path)
        if request is not None:
            return Terms(request.sharing, request.initialization, self._begins[place.path], seed)
        if kept is None:
            return None
        matrix = rows(weight.detach(), layout_of(place.layer, weight), kept).numpy()
        alive = matrix != 0 if place.path in self._masked else np.full(matrix.shape, True)
        return Terms(Sharing(distinct(matrix, alive), kept.per_channel), "linear", 0, seed)

    def _project(self, taken: int) -> None:
        """Masks, codebooks and weights after `taken` optimiser steps, for the one that comes."""
        if taken < self._steps:
            for item in self._plan.assignments:
                self._mask(item, taken + 1)
        for kernel in self._kernels.values():
            book = kernel.codebook
            since = -1 if book is None else taken - book.terms.begin
            if book is not None and since >= 0:
                # Pruning leaves values that were for small weights with none: they are found anew after it.
                if since == 0 or taken == max(book.terms.begin, self._pruned):
                    book.start()
                elif since % self._move_every == 0:
                    book.move()
            kernel.show(shared=since >= 0)

    def _mask(self, item: Assignment[Rule], step: int) -> None:
        wanted = update_at(item.schedule, step)
        if wanted is not None:
            masks = item.rule.masks(max(wanted, item.floor))
            for kernel, stays in zip(self._of(item), masks, strict=True):
                kernel.hide(stays)

    def _of(self, item: Assignment[Rule]) -> Sequence[SharedKernel]:
        """The kernels of the weights that the rule had at first."""
        kernels = [kernel for path in item.paths for kernel in self._layers[path]]
        return list(dict.fromkeys(kernels))

    def _remark(self, place: Placed, sharing: Sharing, context: Context) -> None:
        counts = []
        for kernel in self._layers[place.path]:
            layout = layout_of(place.layer, kernel.weight)
            matrix = rows(kernel.latent, layout, sharing).numpy()
            alive = np.full(matrix.shape, True)
            if kernel.mask is not None:
                alive = rows(kernel.mask, layout, sharing).numpy()
            counts.append(distinct(matrix, alive))
        warn_if_nothing_shared(place.path, counts, sharing, context)
