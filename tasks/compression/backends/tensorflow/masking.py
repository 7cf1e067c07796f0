"""Pruning while a training runs, with TFMOT's wrapper: the part of it that makes and keeps zeros."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from featherweight.spec import Prune
from tasks.compression.assignments import (
    note_outcome,
    remark_on_frequencies,
    settled_pruning,
    warn_of_late_ends,
)
from tasks.compression.backends.tensorflow._framework import sparsity
from tasks.compression.backends.tensorflow.layers import zero_share
from tasks.compression.backends.tensorflow.masks import (
    MaskPlan,
    mask_plan,
    pruning_variables,
    total_sparsity,
    unwrapped,
    wrapped,
)
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.training_parts import TrainingPart
from tasks.compression.context import Context

__all__ = ["Masking", "planned", "steps_of"]


class Masking(TrainingPart):
    """Carries out the pending prune steps and keeps the zeros that are there already."""

    def __init__(self, network: Network, steps: int, context: Context) -> None:
        self._plan = planned(network, steps, context)
        self.settled = settled_pruning(steps_of(network), steps)
        self._model: Any = None

    @property
    def callbacks(self) -> Sequence[Any]:
        return (sparsity.UpdatePruningStep(),)

    def wrap(self, model: Any) -> Any:
        self._model = wrapped(model, self._plan)
        return self._model

    def sparsity(self) -> float | None:
        return total_sparsity(self._model)

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


def planned(network: Network, steps: int, context: Context) -> MaskPlan:
    """The mask plan of a training of `steps` optimiser steps; what will not be as asked for is said."""
    plan = mask_plan(network, seed=context.seed)
    warn_of_late_ends(plan.assignments, steps, context)
    for path, share in plan.kept.items():
        if path not in network.pruned:
            context.warn("existing_zeros_kept", layer=path, share=share)
    remark_on_frequencies(steps_of(network), context)
    return plan


def steps_of(network: Network) -> list[Prune]:
    """The prune steps that wait."""
    return [pending.step for pending in network.waiting(Prune)]
