"""Structured pruning in rounds, each a cut and the training that makes up for it.

Less is lost by several small cuts with training between them than by a large one (Molchanov et al., ICLR
2017; He et al., AMC, ECCV 2018), and what is least important shows anew in each.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter

from featherweight.spec import PruneChannels
from tasks.compression import resuming
from tasks.compression.channel_cuts import Surgery, cut, training_samples, warn_of_target
from tasks.compression.channel_request import described, request_of, round_described
from tasks.compression.context import Context
from tasks.compression.pending import Pending
from tasks.compression.structured import Plan, PruningReport, Rounds, joined
from tasks.compression.underway import UnderwayT
from tasks.compression.waiting import TrainingStep
from tasks.compression.workspace import StepRecord

__all__ = ["train_in_rounds"]

MAX_SEED = 2**31 - 1
OF_A_ROUND = (
    "optimiser_steps",
    "best_epoch",
    "stopped_after_epoch",
    "resumed_from_epoch",
    "resumed_from_step",
)
"""Of what a training notes, that which differs from round to round."""


@dataclass
class _Ended:
    """What the rounds that have ended told: the report of each cut, a round as the job's report has it, and
    the details of the last training."""

    reports: list[PruningReport] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


_ENDED = TypeAdapter(_Ended)


def train_in_rounds(
    network: UnderwayT,
    step: TrainingStep,
    context: Context,
    train: Callable[[UnderwayT, TrainingStep, Context], UnderwayT],
    surgery: Surgery,
) -> UnderwayT:
    """Carry out the one pending prune_channels step, with `train` run after each of its cuts.

    Every training begins with the step's own learning rate, and draws with a seed of its own. The record gets
    the epochs with their round, `prune_channels` (what was removed in all, and in each round) and the
    optimiser steps taken in all. It goes on after the newest of `context.rounds`, within the next one where
    its training has a checkpoint.

    CompressionError not_finite for Taylor's gradients, and what `train` raises.
    """
    (pending,) = network.waiting(PruneChannels)
    asked = pending.step
    request = request_of(surgery.paths(network), asked, pending.pointer, seed=context.seed)
    rounds = Rounds.of(surgery.dependencies(network), request, asked.iterations)
    network, ended = _taken_up(replace(network, pending=()), asked.iterations, context, surgery)
    first, kept_at = len(ended.told) + 1, time.monotonic()
    for number in range(first, asked.iterations + 1):
        plan = _chosen(rounds, network, number, context, surgery)
        context.progress.log(f"round {number} of {asked.iterations}: {_outline(plan.report)}")
        record = StepRecord()
        with context.progress.portion(number, asked.iterations):
            if number == first:
                context.progress.resume(0)
            network = train(
                cut(network, plan, surgery),
                step.model_copy(update={"seed": _seed(step, context, number)}),
                replace(
                    context,
                    record=record,
                    checkpoints=context.rounds.checkpoints(number),
                    rounds_ended=number - 1,
                ),
            )
        ended.reports.append(plan.report)
        ended.told.append(_round(number, plan.report, pending, record))
        ended.details = record.details
        _take_over(record, number, context.record)
        if number < asked.iterations and time.monotonic() - kept_at >= resuming.AT_EPOCH_END_S:
            _keep(network, number, ended, context, surgery)
            kept_at = time.monotonic()
    whole = joined(ended.reports)
    warn_of_target(whole, asked, context)
    alike = {name: value for name, value in ended.details.items() if name not in OF_A_ROUND}
    context.record.details.update(
        alike,
        optimiser_steps=sum(part["optimiser_steps"] for part in ended.told),
        prune_channels={**described(whole, asked), "rounds": ended.told},
    )
    return network


def _taken_up(network: Any, count: int, context: Context, surgery: Surgery) -> tuple[Any, _Ended]:
    """The network after the rounds that an earlier attempt finished."""
    kept = context.rounds.newest(count)
    if kept is None:
        return network, _Ended()
    for warning in kept.record.warnings:
        context.progress.warn(warning)
    context.record.epochs[:] = kept.record.epochs
    context.record.layers |= kept.record.layers
    context.record.warnings[:] = kept.record.warnings
    context.record.details.update(resumed_from_round=kept.number)
    context.progress.resumed(context.index, 0, kept.number)
    context.progress.log(f"goes on after round {kept.number} of {count} of an earlier attempt")
    return surgery.restore(kept.directory), _ENDED.validate_python(kept.record.details)


def _keep(network: Any, number: int, ended: _Ended, context: Context, surgery: Surgery) -> None:
    """A round that cannot be kept is warned of, and ends nothing."""
    record = context.record.model_copy(update={"details": _ENDED.dump_python(ended, mode="json")})
    try:
        context.rounds.keep(number, record, lambda directory: surgery.save(network, directory))
    except OSError as error:
        context.warn("checkpoint_not_kept", why=error.strerror or type(error).__name__)


def _chosen(rounds: Rounds, network: Any, number: int, context: Context, surgery: Surgery) -> Plan:
    graph = surgery.dependencies(network)
    if rounds.request.criterion != "taylor":
        return rounds.plan(graph, number)
    objective = context.training_data.objectives[context.index]
    batches = training_samples(context, objective.labels)
    return rounds.plan(graph, number, batches=batches, loss=surgery.loss(objective))


def _seed(step: TrainingStep, context: Context, number: int) -> int:
    """The first round trains as the step would alone; the others in another order, with other draws."""
    first = context.seed if step.seed is None else step.seed
    return (first + number - 1) % (MAX_SEED + 1)


def _outline(report: PruningReport) -> str:
    return f"{report.parameters_after} parameters, {report.macs_after} MACs"


def _round(
    number: int, report: PruningReport, pending: Pending[PruneChannels], record: StepRecord
) -> dict[str, Any]:
    return {
        **round_described(number, report, pending.step),
        "epochs": len(record.epochs),
        **{name: record.details[name] for name in OF_A_ROUND if name in record.details},
    }


def _take_over(record: StepRecord, number: int, whole: StepRecord) -> None:
    """A round's epochs, notes and warnings into the record of the step; a warning once."""
    whole.epochs += [epoch.model_copy(update={"round": number}) for epoch in record.epochs]
    whole.layers |= record.layers
    whole.warnings += [warning for warning in record.warnings if warning not in whole.warnings]
