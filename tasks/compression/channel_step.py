"""A prune_channels step: whole channels removed, by the package `structured`, at once or in rounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from featherweight.spec import PruneChannels
from tasks.compression.channel_cuts import (
    Surgery,
    cut,
    outlook,
    remark_on,
    training_samples,
    warn_of_target,
)
from tasks.compression.channel_request import (
    amount_asked,
    described,
    left_alone,
    refuse,
    request_of,
)
from tasks.compression.context import Context
from tasks.compression.pending import Pending
from tasks.compression.structured import Rounds, consider
from tasks.compression.underway import Underway, UnderwayT

__all__ = ["check", "prune_channels"]


def check(network: Underway, step: PruneChannels, pointer: str, surgery: Surgery) -> None:
    """CompressionError unsupported_model; layer_not_found; layer_not_supported where the step says ``error``
    and a selected layer cannot lose channels."""
    paths = surgery.paths(network)
    plan = outlook(surgery.dependencies(network), request_of(paths, step, pointer, seed=0))
    refuse(left_alone(paths, step, pointer, plan), step, pointer)


def prune_channels(network: UnderwayT, step: PruneChannels, context: Context, surgery: Surgery) -> UnderwayT:
    """Remove channels at once, or leave the step pending where it has several iterations; where none can go
    the network comes back as it is, and the report says why.

    CompressionError layer_not_supported as `check`, for a network that earlier steps changed; not_finite for
    gradients that are not.
    """
    if step.iterations > 1:
        return _left_pending(network, step, context, surgery)
    graph, paths = surgery.dependencies(network), surgery.paths(network)
    request = request_of(paths, step, context.pointer, seed=context.seed)
    if request.criterion == "taylor":
        objective = context.training_data.objective
        plan = consider(
            graph, request, batches=_told(context, objective.labels), loss=surgery.loss(objective)
        )
    else:
        plan = consider(graph, request)
    alone = left_alone(paths, step, context.pointer, plan)
    refuse(alone, step, context.pointer)
    remark_on(plan, alone, paths, step, context)
    warn_of_target(plan.report, step, context)
    context.record.details.update(
        described(plan.report, step), left_alone={layer.name: layer.reason for layer in alone}
    )
    return cut(network, plan, surgery)


def _left_pending(network: UnderwayT, step: PruneChannels, context: Context, surgery: Surgery) -> UnderwayT:
    graph, paths = surgery.dependencies(network), surgery.paths(network)
    request = request_of(paths, step, context.pointer, seed=context.seed)
    plan = outlook(graph, request)
    alone = left_alone(paths, step, context.pointer, plan)
    refuse(alone, step, context.pointer)
    remark_on(plan, alone, paths, step, context)
    rounds = Rounds.of(graph, request, step.iterations)
    context.record.details.update(
        importance=step.importance,
        target=request.target.measure,
        iterations=step.iterations,
        asked=[amount_asked(rounds.target(number), step) for number in range(1, step.iterations + 1)],
        carried_out_by=context.index + 1,
        left_alone={layer.name: layer.reason for layer in alone},
        macs_assumed=dict(plan.report.assumed),
    )
    if plan.alive.all():
        return network
    return replace(network, pending=(*network.pending, Pending(step, context.pointer)))


def _told(context: Context, labels: Any) -> Iterator[tuple[Any, Any]]:
    batches = list(training_samples(context, labels))
    for number, batch in enumerate(batches, start=1):
        yield batch
        context.progress.advance(number, len(batches))
