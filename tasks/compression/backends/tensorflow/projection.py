"""Shared values while a training runs, and the zeros with them: the part that projects latent weights.

Pruning that goes along follows its schedule on the latent weights: TFMOT's wrapper would forget what is
behind a zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from tasks.compression.assignments import Assignment
from tasks.compression.backends.tensorflow._framework import tf
from tasks.compression.backends.tensorflow.layers import Placed, kernels, placed_layers
from tasks.compression.backends.tensorflow.masks import mask_schedules
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.prunable import PRUNING
from tasks.compression.backends.tensorflow.rules import Rule
from tasks.compression.backends.tensorflow.shared_kernel import SharedKernel
from tasks.compression.backends.tensorflow.training_parts import TrainingPart
from tasks.compression.backends.tensorflow.weights import WEIGHTS
from tasks.compression.context import Context
from tasks.compression.mask_plan import masked_share, planned
from tasks.compression.sharing_plan import SharingPlan

__all__ = ["Projection"]


class Projection(TrainingPart):
    """Carries out the pending prune and cluster steps together, and keeps the zeros and the shared values
    that are there already."""

    def __init__(self, network: Network, steps: int, context: Context) -> None:
        self._plan = planned(network, steps, context, PRUNING)
        self._schedules = mask_schedules(self._plan)
        self._sharing = SharingPlan(network, self._plan, steps, context, WEIGHTS)
        self.settled = self._sharing.settled
        self._step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._kernels: dict[str, list[SharedKernel]] = {}
        self._own: list[list[Any]] = []

    def trained(self, weight: Any) -> Any:
        """The variable that is trained for a weight of the network: itself, where nothing stands for it."""
        return weight

    @property
    def state(self) -> Sequence[Any]:
        return [self._step, *(item for kernel in self._all() for item in kernel.state)]

    def begin(self, model: Any) -> None:
        places = {place.path: place for place in placed_layers(model)}
        for path in dict.fromkeys([*self._schedules, *self._sharing.asked, *self._sharing.kept]):
            self._kernels[path] = self._projected(places[path])
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
        return masked_share(kernel.mask.numpy() for kernel in self._all() if kernel.mask is not None)

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
        return self._sharing.outcome(network, self._plan, taken, context, self._kernels)

    def _projected(self, place: Placed) -> list[SharedKernel]:
        masked = place.path in self._sharing.masked
        return [
            SharedKernel(
                self.trained(weight),
                place.layer,
                masked=masked,
                terms=self._sharing.terms(place, index, weight),
            )
            for index, weight in enumerate(kernels(place.layer))
        ]

    def _project(self) -> None:
        """Masks, codebooks and weights for the optimiser step that comes."""
        for item in self._plan.assignments:
            due, wanted = self._schedules[item.paths[0]](self._step + 1)
            _when(due, lambda item=item, wanted=wanted: self._mask(item, wanted))
        for kernel in self._all():
            if kernel.codebook is None:
                kernel.show(shared=False)
        for begin, group in self._groups():
            since = self._step - begin
            # Pruning leaves values that were for small weights with none, so they are found anew after it.
            found = tf.logical_or(tf.equal(since, 0), tf.equal(self._step, max(begin, self._sharing.pruned)))
            _when(found, lambda group=group: [item.codebook.start() for item in group])
            due = tf.logical_and(since > 0, tf.equal(since % self._sharing.move_every, 0))
            _when(due, lambda group=group: [item.codebook.move() for item in group])
            _when(
                since >= 0,
                lambda group=group: [item.show(shared=True) for item in group],
                lambda group=group: [item.show(shared=False) for item in group],
            )

    def _mask(self, item: Assignment[Rule], wanted: Any) -> None:
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

    def _of(self, item: Assignment[Rule]) -> list[SharedKernel]:
        return [kernel for path in item.paths for kernel in self._kernels[path]]


def _when(due: Any, act: Any, otherwise: Any = lambda: None) -> None:
    """Trace both, run one."""

    def run(action: Any) -> Any:
        action()
        return tf.constant(0)

    tf.cond(due, lambda: run(act), lambda: run(otherwise))
