"""Zeros made and kept while a network trains that rounds: the masks of unstructured pruning on its variables.

TFMOT's own prune-preserving quantiser multiplies by a mask on the way into the kernel, for Conv2D and Dense
with 8 bits, and lets the weights beneath it drift. Here the weights themselves are masked after each
optimiser step, of any layer and with any number of bits, and a schedule may still be running.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tasks.compression.backends.tensorflow._framework import tf
from tasks.compression.backends.tensorflow.layers import kernels, placed_layers
from tasks.compression.backends.tensorflow.masking import planned, settled_pruning
from tasks.compression.backends.tensorflow.masks import Assignment, MaskPlan, note_outcome
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.qat.simulation import Simulation
from tasks.compression.backends.tensorflow.training_parts import TrainingPart
from tasks.compression.context import Context

__all__ = ["KeptZeros"]


class KeptZeros(TrainingPart):
    """Carries out the pending prune steps on the variables of a simulation, and keeps the zeros there are.

    Masks are updated before the step that a schedule names, as TFMOT's wrapper does, which counts from 1.
    """

    def __init__(self, network: Network, simulation: Simulation, steps: int, context: Context) -> None:
        plan = planned(network, steps, context)
        self._plan = replace(plan, assignments=[_moved(item, simulation) for item in plan.assignments])
        self.settled = settled_pruning(network, steps)
        self._masks = {weight.ref(): mask for weight, mask in _masks(network, self._plan, simulation)}
        self._step = tf.Variable(0, dtype=tf.int64, trainable=False)

    @property
    def kept(self) -> bool:
        """Whether there are zeros to keep, or to make."""
        return bool(self._masks)

    @property
    def state(self) -> list[Any]:
        return [self._step, *self._masks.values()]

    def after_step(self) -> None:
        if not self._masks:
            return
        step = self._step.assign_add(1)
        for item in self._plan.assignments:
            due, wanted = self._plan.schedules[item.paths[0]](step)
            tf.cond(due, lambda item=item, wanted=wanted: self._update(item, wanted), tf.no_op)
        for reference, mask in self._masks.items():
            weight = reference.deref()
            weight.assign(tf.where(mask, weight, tf.zeros_like(weight)))

    def sparsity(self) -> float | None:
        masks = [mask.numpy() for mask in self._masks.values()]
        size = sum(mask.size for mask in masks)
        return 1.0 - sum(int(mask.sum()) for mask in masks) / size if size else None

    def outcome(self, network: Network, taken: int, context: Context) -> Network:
        note_outcome(self._plan, taken, context)
        return replace(network, pruned={**network.pruned, **self._plan.targets})

    def _update(self, item: Assignment, wanted: Any) -> Any:
        masks = item.rule.masks(wanted)
        return tf.group(
            [
                self._masks[weight.ref()].assign(mask)
                for weight, mask in zip(item.rule.weights, masks, strict=True)
            ]
        )


def _moved(item: Assignment, simulation: Simulation) -> Assignment:
    """`item` on the variables that are trained."""
    item.rule.weights = [simulation.variable(weight) for weight in item.rule.weights]
    layers = {
        path: [simulation.variable(weight) for weight in weights] for path, weights in item.layers.items()
    }
    return replace(item, layers=layers)


def _masks(network: Network, plan: MaskPlan, simulation: Simulation) -> Iterator[tuple[Any, Any]]:
    """Every variable that zeros are made or kept in, with its mask: True where a weight may stay."""
    for place in placed_layers(network.model):
        if place.path in plan.schedules:
            for weight in kernels(place.layer):
                variable = simulation.variable(weight)
                yield variable, tf.Variable(tf.not_equal(variable, 0), trainable=False)
