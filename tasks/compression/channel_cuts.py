"""A prune_channels step on a real network: what would go, what is said of it, and the cut."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from featherweight.spec import PruneChannels
from tasks.compression.channel_request import (
    TAYLOR_SAMPLES,
    Paths,
    amount_asked,
    amount_reached,
    without_effect,
)
from tasks.compression.context import Context
from tasks.compression.objectives import Aim
from tasks.compression.samples import structure
from tasks.compression.structured import (
    Dependencies,
    Plan,
    PruningReport,
    PruningRequest,
    Untouched,
    carry_out,
    consider,
)
from tasks.compression.structured.framework import Loss
from tasks.compression.underway import UnderwayT
from tasks.compression.workspace import LayerNote

__all__ = ["Surgery", "cut", "outlook", "remark_on", "training_samples", "warn_of_target"]

# Gradients of small batches, so that what one sample needs is not averaged away.
TAYLOR_BATCH = 8


@dataclass(frozen=True)
class Surgery:
    """What the steps ask of a framework's networks (`Network` of its backend).

    `dependencies` are those of a network, CompressionError unsupported_model; `paths` answers a selection of
    its layers; `smaller` is the network with a model with fewer channels in the place of its own; `loss` that
    of an aim, which counts outputs without labels too; `save` and `restore` keep a network in a directory.
    """

    dependencies: Callable[[Any], Dependencies]
    paths: Callable[[Any], Paths]
    smaller: Callable[[Any, Any], Any]
    loss: Callable[[Aim], Loss]
    save: Callable[[Any, Path], None]
    restore: Callable[[Path], Any]


def outlook(graph: Dependencies, request: PruningRequest) -> Plan:
    """What would go if all of it went at once. Without data: which layers can lose channels, and how many,
    does not depend on it, but for layers of equal shares."""
    if request.criterion == "taylor":
        request = replace(request, criterion="random")
    return consider(graph, request)


def cut(network: UnderwayT, plan: Plan, surgery: Surgery) -> UnderwayT:
    """`network` without what goes; the same where nothing does."""
    if plan.alive.all():
        return network
    smaller: UnderwayT = surgery.smaller(network, carry_out(plan).model)
    return smaller


def remark_on(
    plan: Plan, alone: list[Untouched], paths: Paths, step: PruneChannels, context: Context
) -> None:
    """Say which selected layers lose nothing, which overrides do nothing, and which MACs are assumed."""
    for layer in alone:
        context.record.layers[layer.name] = LayerNote(skipped=layer.reason)
        context.warn("channels_left_alone", layer=layer.name, why=layer.reason)
    for index in without_effect(paths, step, context.pointer, plan):
        context.warn("override_unused", index=index)
    for name, how in plan.report.assumed.items():
        context.warn("macs_assumed", layer=name, how=how)


def warn_of_target(report: PruningReport, step: PruneChannels, context: Context) -> None:
    if not report.met:
        reached, asked = amount_reached(report), amount_asked(report.target, step)
        context.warn("target_not_reached", measure=report.target.measure, reached=reached, asked=asked)


def training_samples(context: Context, labels: Any) -> Iterator[tuple[Any, Any]]:
    """For Taylor's importance: batches of the training split alone, drawn with the job's seed."""
    data = context.training_data
    drawn = np.random.default_rng(context.seed).permutation(data.train)[:TAYLOR_SAMPLES]
    for part in np.array_split(drawn, math.ceil(len(drawn) / TAYLOR_BATCH)):
        yield structure(data.x[part]), structure(labels[part])
