"""Fine-tuning, with the pruning that waits for it and the zeros that are there already."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

from featherweight.spec import Distill, Finetune, PolynomialDecay, Prune, PruningSchedule
from tasks.compression.backends.tensorflow._framework import without_autograph
from tasks.compression.backends.tensorflow.fit import fit
from tasks.compression.backends.tensorflow.masks import (
    mask_plan,
    note_outcome,
    unwrapped,
    warn_of_late_ends,
    wrapped,
)
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.summaries import Summaries
from tasks.compression.backends.tensorflow.teaching import Teaching
from tasks.compression.context import Context
from tasks.compression.errors import CompressionError
from tasks.compression.resolve import optimiser_steps, settled_step

__all__ = ["finetune"]

FEWEST_UPDATES = 4  # with fewer mask updates on its way, a decay is a jump


@without_autograph  # type: ignore[untyped-decorator]
def finetune(
    network: Network, step: Finetune | Distill, context: Context, teaching: Teaching | None = None
) -> Network:
    """Train on the training split, carrying out `network.pending`; returns the model stripped.

    With `teaching`, towards a teacher's outputs. CompressionError training_diverged when the loss is no
    longer finite, with the model of the last good epoch, stripped as well.
    """
    plan = mask_plan(network, seed=context.seed)
    steps = optimiser_steps(len(context.training_data.train), step)
    warn_of_late_ends(plan, steps, context)
    for path, share in plan.kept.items():
        if path not in network.pruned:
            context.warn("existing_zeros_kept", layer=path, share=share)
    schedules = _schedules(network)
    for schedule in schedules:
        _remark_on_frequency(schedule, context)
    settled = max((settled_step(schedule, steps) for schedule in schedules), default=0)
    model = wrapped(network.model, plan)
    summarised = any(item.step.summaries for item in network.pending)
    with Summaries(context.scratch) if summarised else nullcontext() as summaries:
        try:
            taken = fit(model, step, context, settled, teaching, [summaries] if summaries else [])
        except CompressionError as error:
            if error.kept is not None:
                last_good = replace(network, model=unwrapped(model, plan), pending=())
                error.kept = replace(error.kept, network=last_good)
            raise
        tensorboard = summaries.archive() if summaries else network.tensorboard
    model = unwrapped(model, plan)
    note_outcome(plan, taken, context)
    pruned = {**network.pruned, **plan.targets}
    return replace(network, model=model, pending=(), pruned=pruned, tensorboard=tensorboard)


def _schedules(network: Network) -> list[PruningSchedule]:
    """Of all that waits, overrides included."""
    prunes = [pending.step for pending in network.pending if isinstance(pending.step, Prune)]
    return [prune.schedule for prune in prunes] + [
        override.schedule for prune in prunes for override in prune.overrides
    ]


def _remark_on_frequency(schedule: PruningSchedule, context: Context) -> None:
    if not isinstance(schedule, PolynomialDecay):
        return
    begin, end, frequency = schedule.begin_step, schedule.end_step, schedule.frequency
    if isinstance(begin, int) and isinstance(end, int) and isinstance(frequency, int):
        steps = end - begin
        if frequency * FEWEST_UPDATES > steps:
            context.warn("fewer_steps_than_frequency", steps=steps, frequency=frequency)
