"""Pruning while a training runs, with TFMOT's wrapper: the part of it that makes and keeps zeros."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tasks.compression.assignments import note_outcome, settled_pruning
from tasks.compression.backends.tensorflow._framework import sparsity
from tasks.compression.backends.tensorflow.layers import zero_share
from tasks.compression.backends.tensorflow.masks import pruning_variables, unwrapped, wrapped
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.prunable import PRUNING
from tasks.compression.backends.tensorflow.training_parts import TrainingPart
from tasks.compression.context import Context
from tasks.compression.mask_plan import masked_share, planned, steps_of

__all__ = ["Masking"]


class Masking(TrainingPart):
    """Carries out the pending prune steps and keeps the zeros that are there already."""

    def __init__(self, network: Network, steps: int, context: Context) -> None:
        self._plan = planned(network, steps, context, PRUNING)
        self.settled = settled_pruning(steps_of(network), steps)
        self._model: Any = None

    @property
    def callbacks(self) -> Sequence[Any]:
        return (sparsity.UpdatePruningStep(),)

    def wrap(self, model: Any) -> Any:
        self._model = wrapped(model, self._plan)
        return self._model

    def sparsity(self) -> float | None:
        return masked_share(mask.numpy() for _, mask, _ in pruning_variables(self._model))

    def summary(self) -> Mapping[str, float]:
        values = {}
        for _, mask, threshold in pruning_variables(self._model):
            values[f"{mask.name}/sparsity"] = 1.0 - float(mask.numpy().mean())
            values[f"{threshold.name}/threshold"] = float(threshold.numpy())
        return values

    def unwrap(self, model: Any) -> Any:
        return unwrapped(model, self._plan)

    def outcome(self, network: Network, taken: int, context: Context) -> Network:
        note_outcome(self._plan.assignments, taken, context, zero_share)
        return replace(network, pruned={**network.pruned, **self._plan.targets})
