"""Pruning while a training runs, with TFMOT's wrapper: the part of it that makes and keeps zeros."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from featherweight.spec import PolynomialDecay, Prune, PruningSchedule
from tasks.compression.backends.tensorflow._framework import sparsity
from tasks.compression.backends.tensorflow.masks import (
    MaskPlan,
    mask_plan,
    note_outcome,
    pruning_variables,
    total_sparsity,
    unwrapped,
    warn_of_late_ends,
    wrapped,
)
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.training_parts import TrainingPart
from tasks.compression.context import Context
from tasks.compression.resolve import settled_step

__all__ = ["Masking", "planned", "settled_pruning"]

FEWEST_UPDATES = 4  # with fewer mask updates on its way, a decay is a jump


class Masking(TrainingPart):
    """Carries out the pending prune steps and keeps the zeros that are there already."""

    def __init__(self, network: Network, steps: int, context: Context) -> None:
        self._plan = planned(network, steps, context)
        self.settled = settled_pruning(network, steps)
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
        note_outcome(self._plan, taken, context)
        return replace(network, pruned={**network.pruned, **self._plan.targets})


def planned(network: Network, steps: int, context: Context) -> MaskPlan:
    """The mask plan of a training of `steps` optimiser steps; what will not be as asked for is said."""
    plan = mask_plan(network, seed=context.seed)
    warn_of_late_ends(plan, steps, context)
    for path, share in plan.kept.items():
        if path not in network.pruned:
            context.warn("existing_zeros_kept", layer=path, share=share)
    for schedule in _schedules(network):
        _remark_on_frequency(schedule, context)
    return plan


def settled_pruning(network: Network, steps: int) -> int:
    """The step, of a training of `steps`, after which all that waits asks for its final sparsity."""
    return max((settled_step(schedule, steps) for schedule in _schedules(network)), default=0)


def _schedules(network: Network) -> Iterator[PruningSchedule]:
    """Of all that waits, overrides included."""
    for pending in network.waiting(Prune):
        yield pending.step.schedule
        yield from (override.schedule for override in pending.step.overrides)


def _remark_on_frequency(schedule: PruningSchedule, context: Context) -> None:
    if not isinstance(schedule, PolynomialDecay):
        return
    begin, end, frequency = schedule.begin_step, schedule.end_step, schedule.frequency
    if isinstance(begin, int) and isinstance(end, int) and isinstance(frequency, int):
        steps = end - begin
        if frequency * FEWEST_UPDATES > steps:
            context.warn("fewer_steps_than_frequency", steps=steps, frequency=frequency)
