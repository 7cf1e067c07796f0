"""Zeros and shared values made and kept while a network learns to be rounded.

TFMOT has quantisers that preserve them (PQAT, CQAT, PCQAT), for Conv2D and Dense with 8 bits: zeros by a
mask on the way into the kernel, beneath which the weights drift, shared values by a codebook of those found,
both fixed before the training. Here the weights themselves are projected after each optimiser step, as in
any other training: of any layer, with any number of bits, with a schedule that may still be running, and the
float network keeps them too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tasks.compression.assignments import Assignment
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.projection import Projection
from tasks.compression.backends.tensorflow.qat.simulation import Simulation
from tasks.compression.backends.tensorflow.rules import Rule
from tasks.compression.context import Context

__all__ = ["Keeping"]


class Keeping(Projection):
    """Projects the variables of a simulation, which are trained in the place of the network's."""

    def __init__(self, network: Network, simulation: Simulation, steps: int, context: Context) -> None:
        super().__init__(network, steps, context)
        self._simulation = simulation
        moved = [_moved(item, simulation) for item in self._plan.assignments]
        self._plan = replace(self._plan, assignments=moved)
        self.zeros = bool(self._sharing.masked)
        self.shared_values = bool(self._sharing.asked or self._sharing.kept)

    def trained(self, weight: Any) -> Any:
        return self._simulation.variable(weight)

    def begin(self, model: Any) -> None:
        super().begin(self._simulation.source)


def _moved(item: Assignment[Rule], simulation: Simulation) -> Assignment[Rule]:
    """`item` on the variables that are trained."""
    item.rule.weights = [simulation.variable(weight) for weight in item.rule.weights]
    layers = {
        path: [simulation.variable(weight) for weight in weights] for path, weights in item.layers.items()
    }
    return replace(item, layers=layers)
