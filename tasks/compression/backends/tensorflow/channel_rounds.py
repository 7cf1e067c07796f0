"""Structured pruning in rounds, each a cut and the training that makes up for it.

Less is lost by several small cuts with training between them than by a large one (Molchanov et al., ICLR
2017; He et al., AMC, ECCV 2018), and what is least important shows anew in each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from featherweight.spec import PruneChannels
from tasks.compression.backends.tensorflow.channel_cuts import (
    cut,
    paths_of,
    training_samples,
    warn_of_target,
)
from tasks.compression.backends.tensorflow.channel_request import (
    described,
    request_of,
    round_described,
)
from tasks.compression.backends.tensorflow.joint import loss_of
from tasks.compression.backends.tensorflow.network import Network, Pending
from tasks.compression.backends.tensorflow.structured import Plan, PruningReport, Rounds, joined
from tasks.compression.checkpoints import NoCheckpoints
from tasks.compression.context import Context
from tasks.compression.waiting import TrainingStep
from tasks.compression.workspace import StepRecord

__all__ = ["train_in_rounds"]

Train = Callable[[Network, TrainingStep, Context], Network]

MAX_SEED = 2**31 - 1
OF_A_ROUND = ("optimiser_steps", "best_epoch", "stopped_after_epoch")
"""Of what a training notes, that which differs from round to round."""


def train_in_rounds(network: Network, step: TrainingStep, context: Context, train: Train) -> Network:
    """Carry out the one pending prune_channels step, with `train` run after each of its cuts.

    Every training begins with the step's own learning rate, and draws with a seed of its own. The record gets
    the epochs with their round, `prune_channels` (what was removed in all, and in each round) and the
    optimiser steps taken in all. CompressionError not_finite for Taylor's gradients, and what `train` raises.
    """
    (pending,) = network.waiting(PruneChannels)
    asked = pending.step
    request = request_of(paths_of(network.model), asked, pending.pointer, seed=context.seed)
    rounds = Rounds.of(network.model, request, asked.iterations)
    network = replace(network, pending=())
    reports: list[PruningReport] = []
    told: list[dict[str, Any]] = []
    for number in range(1, asked.iterations + 1):
        plan = _chosen(rounds, network, number, context)
        reports.append(plan.report)
        context.progress.log(f"round {number} of {asked.iterations}: {_outline(plan.report)}")
        record = StepRecord()
        with context.progress.portion(number, asked.iterations):
            network = train(
                cut(network, plan),
                step.model_copy(update={"seed": _seed(step, context, number)}),
                # A checkpoint is of one training, and does not say which cut came before it.
                replace(context, record=record, checkpoints=NoCheckpoints()),
            )
        told.append(_round(number, plan.report, pending, record))
        _take_over(record, number, context.record)
    whole = joined(reports)
    warn_of_target(whole, asked, context)
    alike = {name: value for name, value in record.details.items() if name not in OF_A_ROUND}
    context.record.details.update(
        alike,
        optimiser_steps=sum(part["optimiser_steps"] for part in told),
        prune_channels={**described(whole, asked), "rounds": told},
    )
    return network


def _chosen(rounds: Rounds, network: Network, number: int, context: Context) -> Plan:
    if rounds.request.criterion != "taylor":
        return rounds.plan(network.model, number)
    objective = context.training_data.objectives[context.index]
    batches = training_samples(context, objective.labels)
    return rounds.plan(network.model, number, batches=batches, loss=loss_of(objective, everything=True))


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
