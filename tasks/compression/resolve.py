"""The spec with every ``auto`` and every value left out replaced by what will be used."""

from __future__ import annotations

import math
from typing import Any

from featherweight.spec import (
    AUTO,
    CompressionSpec,
    ConstantSparsity,
    CustomSchedule,
    Distill,
    Prune,
    PruningSchedule,
    SchedulePoint,
    Step,
)
from tasks.compression.data import Data
from tasks.compression.errors import CompressionError
from tasks.compression.objective import Objective
from tasks.compression.objectives import Aim
from tasks.compression.waiting import TrainingStep, carrier

__all__ = ["optimiser_steps", "resolve_schedule", "resolve_spec", "resolved_aim", "settled_step"]

MAX_FREQUENCY = 100
UPDATES = 20


def resolve_spec(spec: CompressionSpec, data: Data | None) -> CompressionSpec:
    """`spec` as it will be carried out on `data`.

    The steps of a one-shot prune's schedule stay ``auto``: there is no training to count them in.
    CompressionError invalid_request for a schedule that begins after the training ends.
    """
    steps = tuple(_resolve_step(spec, index, data) for index in range(len(spec.steps)))
    return spec.model_copy(update={"steps": steps})


def optimiser_steps(samples: int, step: TrainingStep) -> int:
    """How many batches the fine-tuning trains on; the last one of an epoch may be smaller."""
    return math.ceil(samples / step.batch_size) * step.epochs


def resolve_schedule(schedule: PruningSchedule, steps: int, pointer: str) -> PruningSchedule:
    """`schedule` over a training of `steps` optimiser steps, as the TFMOT tutorials compute it; the points of
    a custom one are placed by step, and of those at the same step the last counts."""
    if isinstance(schedule, CustomSchedule):
        return _resolve_points(schedule, steps)
    begin = 0 if schedule.begin_step == AUTO else schedule.begin_step
    end = steps if schedule.end_step == AUTO else schedule.end_step
    if begin >= end:
        raise CompressionError(
            "invalid_request",
            f"the schedule begins at step {begin} and the training ends at step {end}",
            hint=f"begin before step {end}, or train longer",
            pointer=f"{pointer}/begin_step",
        )
    frequency = _frequency(schedule, end - begin)
    return schedule.model_copy(update={"begin_step": begin, "end_step": end, "frequency": frequency})


def _resolve_points(schedule: CustomSchedule, steps: int) -> CustomSchedule:
    placed = {
        round(point.fraction * steps) if point.fraction is not None else point.step: point.sparsity
        for point in schedule.points
    }
    points = tuple(SchedulePoint(step=step, sparsity=sparsity) for step, sparsity in placed.items())
    frequency = _frequency(schedule, points[-1].step or 0)
    return schedule.model_copy(update={"points": points, "frequency": frequency})


def _frequency(schedule: PruningSchedule, way: int) -> int:
    """How often masks are updated on a way of that many steps."""
    if schedule.frequency != AUTO:
        return schedule.frequency
    return max(1, min(MAX_FREQUENCY, way // UPDATES))


def _resolve_step(spec: CompressionSpec, index: int, data: Data | None) -> Step:
    step = spec.steps[index]
    if isinstance(step, Prune):
        return _resolve_prune(spec, index, step, data)
    if isinstance(step, TrainingStep) and data is not None:
        objective = data.objectives[index]
        seed = spec.seed if step.seed is None else step.seed
        return step.model_copy(update={**resolved_aim(step, objective), "seed": seed})
    return step


def resolved_aim(step: TrainingStep, aim: Aim) -> dict[str, Any]:
    """The loss and the metrics of a step; by name, with the weights, for several outputs. Those that the
    step does not train have none."""
    if isinstance(aim, Objective):
        return {"loss": aim.loss, "metrics": aim.metrics}
    trained = aim.by_output if isinstance(step, Distill) else aim.labelled
    return {
        "loss": {name: part.loss for name, part in trained.items()},
        "metrics": {name: part.metrics for name, part in trained.items()},
        "loss_weights": {name: aim.weights[name] for name in trained},
    }


def _resolve_prune(spec: CompressionSpec, index: int, step: Prune, data: Data | None) -> Prune:
    training = carrier(spec.steps, index)
    if training is None or data is None:
        return step
    total = optimiser_steps(len(data.train), training)
    schedule = resolve_schedule(step.schedule, total, f"/steps/{index}/schedule")
    overrides = tuple(
        override.model_copy(
            update={
                "schedule": resolve_schedule(
                    override.schedule, total, f"/steps/{index}/overrides/{place}/schedule"
                )
            }
        )
        for place, override in enumerate(step.overrides)
    )
    return step.model_copy(update={"schedule": schedule, "overrides": overrides})


def settled_step(schedule: PruningSchedule, steps: int) -> int:
    """The optimiser step, of a training of `steps`, after which `schedule` asks for its final sparsity."""
    if isinstance(schedule, CustomSchedule):
        last = schedule.points[-1]
        return last.step if last.step is not None else math.ceil((last.fraction or 0.0) * steps)
    if isinstance(schedule, ConstantSparsity):
        return 0 if schedule.begin_step == AUTO else schedule.begin_step
    return steps if schedule.end_step == AUTO else schedule.end_step
