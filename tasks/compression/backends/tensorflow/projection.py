"""Shared values while a training runs, and the zeros with them: the part that projects latent weights.

Pruning that goes along follows its schedule on the latent weights: TFMOT's wrapper would forget what is
behind a zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np

from tasks.compression.backends.tensorflow._framework import tf
from tasks.compression.backends.tensorflow.clusterable import (
    chance,
    requests,
    warn_if_nothing_shared,
)
from tasks.compression.backends.tensorflow.codebook import distinct
from tasks.compression.backends.tensorflow.layers import Placed, kernels, placed_layers
from tasks.compression.backends.tensorflow.masking import planned, settled_pruning
from tasks.compression.backends.tensorflow.masks import Assignment, note_outcome
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.rows import rows
from tasks.compression.backends.tensorflow.shared_kernel import SharedKernel, Terms
from tasks.compression.backends.tensorflow.training_parts import TrainingPart
from tasks.compression.context import Context
from tasks.compression.pending import Sharing

__all__ = ["Projection"]

MOVE_EVERY = 50
MOVES = 20
"""Optimiser steps between two of Lloyd's rounds: the latent weights hardly change their places in fewer. In
a short training they are fewer all the same, so that the values move."""


class Projection(TrainingPart):
    """Carries out the pending prune and cluster steps together, and keeps the zeros and the shared values
    that are there already."""

    def __init__(self, network: Network, steps: int, context: Context) -> None:
        self._plan = planned(network, steps, context)
        self._asked = requests(network)
        self._kept = {path: item for path, item in network.shared.items() if path not in self._asked}
        self._masked = {*self._plan.schedules, *network.pruned}
        self._seed = context.seed
        self._begins = {path: math.floor(item.begin * steps) for path, item in self._asked.items()}
        self._pruned = settled_pruning(network, steps)
        self.settled = max([self._pruned, *(begin + 1 for begin in self._begins.values())])
        self._move_every = max(1, min(MOVE_EVERY, steps // MOVES))
        self._step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._kernels: dict[str, list[SharedKernel]] = {}
        self._own: list[list[Any]] = []

    def trained(self, weight: Any) -> Any:
        """The variable that is trained for a weight of the network: itself, where nothing stands for it."""
        return weight

    @property
    def state(self) -> Sequence[Any]:
        return [self._step, *(item for kernel in self._all() for item in kernel.state)]

    def constrain(self, model: Any) -> None:
        places = {place.path: place for place in placed_layers(model)}
        for path in dict.fromkeys([*self._plan.schedules, *self._asked, *self._kept]):
            self._kernels[path] = [
                SharedKernel(
                    self.trained(weight), places[path].layer, masked=path in self._masked, terms=terms
                )
                for weight, terms in zip(kernels(places[path].layer), self._terms(places[path]), strict=True)
            ]
        # From here on the rules rank latent weights.
        self._own = [item.rule.weights for item in self._plan.assignments]
        for item in self._plan.assignments:
            item.rule.weights = [kernel.latent for kernel in self._of(item)]
        self._project()

    def after_step(self) -> None:
        for kernel in self._all():
            kernel.absorb()
        self._step.assign_add(1)
        self._project()

    def sparsity(self) -> float | None:
        masks = [kernel.mask.numpy() for kernel in self._all() if kernel.mask is not None]
        size = sum(mask.size for mask in masks)
        return 1.0 - sum(int(np.count_nonzero(mask)) for mask in masks) / size if size else None

    def summary(self) -> Mapping[str, float]:
        values = {}
        for kernel in self._all():
            if kernel.mask is not None:
                stays, name = kernel.mask.numpy() != 0, kernel.weight.name
                values[f"{name}/mask/sparsity"] = 1.0 - float(stays.mean())
                smallest = np.abs(kernel.latent.numpy()[stays]).min() if stays.any() else 0.0
                values[f"{name}/mask/threshold"] = float(smallest)
        return values

    def unwrap(self, model: Any) -> Any:
        for item, weights in zip(self._plan.assignments, self._own, strict=True):
            item.rule.weights = weights
        return model

    def outcome(self, network: Network, taken: int, context: Context) -> Network:
        note_outcome(self._plan, taken, context)
        for place in placed_layers(network.model):
            if place.path in self._asked:
                self._remark(place, self._asked[place.path].sharing, context)
        shared = {path: item.sharing for path, item in self._asked.items()}
        return replace(
            network,
            pruned={**network.pruned, **self._plan.targets},
            shared={**network.shared, **shared},
        )

    def _terms(self, place: Placed) -> list[Terms | None]:
        """Of every kernel of a layer. Values shared already are as many as they are, and shared all along."""
        found: list[Terms | None] = []
        for index, kernel in enumerate(kernels(place.layer)):
            seed = chance(self._seed, place.path, index)
            request = self._asked.get(place.path)
            kept = self._kept.get(place.path)
            if request is not None:
                begin = self._begins[place.path]
                found.append(Terms(request.sharing, request.initialization, begin, seed))
            elif kept is not None:
                matrix = rows(kernel, place.layer, kept).numpy()
                alive = matrix != 0 if place.path in self._masked else np.full(matrix.shape, True)
                sharing = Sharing(distinct(matrix, alive), kept.per_channel)
                found.append(Terms(sharing, "linear", 0, seed))
            else:
                found.append(None)
        return found

    def _project(self) -> None:
        """Masks, codebooks and weights for the optimiser step that comes."""
        for item in self._plan.assignments:
            due, wanted = self._plan.schedules[item.paths[0]](self._step + 1)
            _when(due, lambda item=item, wanted=wanted: self._mask(item, wanted))
        for kernel in self._all():
            if kernel.codebook is None:
                kernel.show(shared=False)
        for begin, group in self._groups():
            since = self._step - begin
            # Pruning leaves values that were for small weights with none, so they are found anew after it.
            found = tf.logical_or(tf.equal(since, 0), tf.equal(self._step, max(begin, self._pruned)))
            _when(found, lambda group=group: [item.codebook.start() for item in group])
            due = tf.logical_and(since > 0, tf.equal(since % self._move_every, 0))
            _when(due, lambda group=group: [item.codebook.move() for item in group])
            _when(
                since >= 0,
                lambda group=group: [item.show(shared=True) for item in group],
                lambda group=group: [item.show(shared=False) for item in group],
            )

    def _mask(self, item: Assignment, wanted: Any) -> None:
        for kernel, stays in zip(self._of(item), item.rule.masks(wanted), strict=True):
            kernel.hide(stays)

    def _groups(self) -> list[tuple[int, list[Any]]]:
        """The kernels that share values, by the step after which they do."""
        sharing = [kernel for kernel in self._all() if kernel.codebook is not None]

        def begin(kernel: Any) -> Any:
            return kernel.codebook.terms.begin

        return [(step, list(group)) for step, group in groupby(sorted(sharing, key=begin), key=begin)]

    def _all(self) -> list[SharedKernel]:
        return [kernel for found in self._kernels.values() for kernel in found]

    def _of(self, item: Assignment) -> list[SharedKernel]:
        return [kernel for path in item.paths for kernel in self._kernels[path]]

    def _remark(self, place: Placed, sharing: Sharing, context: Context) -> None:
        counts = []
        for kernel in self._kernels[place.path]:
            matrix = rows(kernel.latent, place.layer, sharing).numpy()
            alive = np.full(matrix.shape, True)
            if kernel.mask is not None:
                alive = rows(kernel.mask, place.layer, sharing).numpy() > 0
            counts.append(distinct(matrix, alive))
        warn_if_nothing_shared(place.path, counts, sharing, context)


def _when(due: Any, act: Any, otherwise: Any = lambda: None) -> None:
    """Trace both, run one."""

    def run(action: Any) -> Any:
        action()
        return tf.constant(0)

    tf.cond(due, lambda: run(act), lambda: run(otherwise))
