"""Fine-tuning, with the pruning that waits for it and the zeros that are there already."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from featherweight.spec import Distill, Finetune, Prune
from tasks.compression.backends.tensorflow.fit import fit
from tasks.compression.backends.tensorflow.layers import kernels, placed_layers, zero_share
from tasks.compression.backends.tensorflow.masks import MaskPlan, mask_plan, unwrapped, wrapped
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.prune import kept_weights
from tasks.compression.backends.tensorflow.teaching import Teaching
from tasks.compression.context import Context
from tasks.compression.resolve import optimiser_steps, settled_step

__all__ = ["finetune"]


def finetune(
    network: Network, step: Finetune | Distill, context: Context, teaching: Teaching | None = None
) -> Network:
    """Train on the training split, carrying out `network.pending`; returns the model stripped.

    With `teaching`, towards a teacher's outputs. CompressionError training_diverged when the loss is no
    longer finite.
    """
    plan = mask_plan(network)
    for path, share in plan.kept.items():
        if path not in network.pruned:
            context.warn("existing_zeros_kept", layer=path, share=share)
    model = wrapped(network.model, plan)
    taken = fit(model, step, context, _settled(network, step, context), teaching)
    model = unwrapped(model, plan)
    _check_reached(model, plan, taken, network, context)
    pruned = {**network.pruned, **plan.targets}
    return replace(network, model=model, pending=(), pruned=pruned)


def _settled(network: Network, step: Finetune | Distill, context: Context) -> int:
    """The optimiser step after which all pending pruning has its final sparsity."""
    steps = optimiser_steps(len(context.training_data.train), step)
    prunes = [pending.step for pending in network.pending if isinstance(pending.step, Prune)]
    schedules = [prune.schedule for prune in prunes]
    schedules += [override.schedule for prune in prunes for override in prune.overrides]
    return max((settled_step(schedule, steps) for schedule in schedules), default=0)


def _check_reached(model: Any, plan: MaskPlan, steps: int, network: Network, context: Context) -> None:
    """Warn for every layer with fewer zeros than its schedule's end asks for."""
    places = {place.path: place for place in placed_layers(model)}
    late = {
        place
        for pending in network.pending
        if isinstance(pending.step.schedule.end_step, int) and pending.step.schedule.end_step > steps
        for place in pending.step.layers.include
    }
    why = f": the schedule ends after the training's {steps} steps" if late else ""
    for path, target in plan.targets.items():
        weights = kernels(places[path].layer)
        size = sum(math.prod(weight.shape) for weight in weights)
        promised = 1.0 - sum(kept_weights(math.prod(weight.shape), target) for weight in weights) / size
        reached = zero_share(weights)
        if reached < promised - 1e-9:
            context.warn("sparsity_not_reached", layer=path, reached=reached, target=target, why=why)
