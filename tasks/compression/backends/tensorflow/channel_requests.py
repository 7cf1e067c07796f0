"""A prune_channels step as a request to `structured`, and what comes of it in the words of the step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from glob import escape
from typing import Any

import numpy as np

from featherweight.spec import KeepParameters, LayerSelection, PruneChannels, RemoveRatio
from tasks.compression.backends.tensorflow.layers import select
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.structured import (
    Criterion,
    Plan,
    PruningReport,
    PruningRequest,
    Target,
    Untouched,
    carry_out,
    consider,
)
from tasks.compression.context import Context
from tasks.compression.errors import CompressionError
from tasks.compression.samples import structure
from tasks.compression.workspace import LayerNote

__all__ = [
    "amount_asked",
    "amount_reached",
    "cut",
    "described",
    "left_alone",
    "outlook",
    "refuse",
    "remark_on",
    "request_of",
    "training_samples",
    "warn_of_target",
]

# Of the training split: gradients of small batches, so that what one sample needs is not averaged away.
TAYLOR_BATCH = 8
TAYLOR_SAMPLES = 1024


def request_of(model: Any, step: PruneChannels, pointer: str, *, seed: int) -> PruningRequest:
    """Selections become the paths they name, so that patterns mean what they do in every other step."""
    target = step.target
    if isinstance(target, RemoveRatio):
        amount = Target("channels", target.remove)
    elif isinstance(target, KeepParameters):
        amount = Target("parameters", 1 - target.keep)
    else:
        amount = Target("macs", 1 - target.keep)
    chosen = _paths(model, step.layers, f"{pointer}/layers")
    excluded: set[str] = set()
    if step.layers.exclude:
        others = _paths(model, LayerSelection(exclude=step.layers.exclude), f"{pointer}/layers")
        excluded = set(_paths(model, LayerSelection(), pointer)) - set(others)
    overridden = _overridden(model, step, pointer)
    criterion: Criterion
    criterion = "batchnorm_scale" if step.importance == "batch_norm_scale" else step.importance
    return PruningRequest(
        target=amount,
        criterion=criterion,
        include=tuple(escape(path) for path in chosen),
        exclude=tuple(escape(path) for path in sorted(excluded)),
        shares={escape(path): step.overrides[index].remove for path, index in overridden.items()},
        min_channels=step.min_channels,
        round_to=step.round_to,
        seed=seed,
    )


def outlook(model: Any, request: PruningRequest) -> Plan:
    """What would go if all of it went at once. Without data: which layers can lose channels, and how many,
    does not depend on it, but for layers of equal shares."""
    if request.criterion == "taylor":
        request = replace(request, criterion="random")
    return consider(model, request)


def left_alone(model: Any, step: PruneChannels, pointer: str, plan: Plan) -> list[Untouched]:
    """The selected layers that make channels and cannot lose any."""
    chosen = set(_paths(model, step.layers, f"{pointer}/layers"))
    return [layer for layer in plan.report.untouched if layer.name in chosen]


def refuse(alone: list[Untouched], step: PruneChannels, pointer: str) -> None:
    """CompressionError layer_not_supported where the step says ``error``."""
    if alone and step.on_unsupported == "error":
        first = alone[0]
        raise CompressionError(
            "layer_not_supported",
            f"the layer {first.name} was selected and cannot lose channels: {first.reason}",
            hint="exclude it, or set on_unsupported to skip",
            layer=first.name,
            pointer=f"{pointer}/layers",
        )


def cut(network: Network, plan: Plan) -> Network:
    """`network` without what goes; the same where nothing does."""
    if plan.alive.all():
        return network
    return replace(network, model=carry_out(plan).model, pruned={}, shared={}, tflite=None)


def remark_on(plan: Plan, alone: list[Untouched], step: PruneChannels, context: Context) -> None:
    """Say which selected layers lose nothing, which overrides do nothing, and which MACs are assumed."""
    for layer in alone:
        context.record.layers[layer.name] = LayerNote(skipped=layer.reason)
        context.warn("channels_left_alone", layer=layer.name, why=layer.reason)
    for index in _without_effect(plan.graph.model, step, context.pointer, plan):
        context.warn("override_unused", index=index)
    for name, how in plan.report.assumed.items():
        context.warn("macs_assumed", layer=name, how=how)


def _without_effect(model: Any, step: PruneChannels, pointer: str, plan: Plan) -> list[int]:
    """The overrides that ask for channels to go where none does."""
    overridden = _overridden(model, step, pointer)
    losing = {
        overridden.get(maker)
        for group in plan.graph.groups
        if not plan.alive[group.units].all()
        for maker in group.makers
    }
    return [index for index, item in enumerate(step.overrides) if item.remove > 0 and index not in losing]


def _overridden(model: Any, step: PruneChannels, pointer: str) -> dict[str, int]:
    """The first override that matches each layer."""
    found: dict[str, int] = {}
    for index, override in enumerate(step.overrides):
        for path in _paths(model, override.layers, f"{pointer}/overrides/{index}/layers"):
            found.setdefault(path, index)
    return found


def _paths(model: Any, selection: LayerSelection, pointer: str) -> list[str]:
    return [place.path for place in select(model, selection, pointer)]


def training_samples(context: Context, labels: Any) -> Iterator[tuple[Any, Any]]:
    """For Taylor's importance: batches of the training split alone, drawn with the job's seed."""
    data = context.training_data
    drawn = np.random.default_rng(context.seed).permutation(data.train)[:TAYLOR_SAMPLES]
    for part in np.array_split(drawn, math.ceil(len(drawn) / TAYLOR_BATCH)):
        yield structure(data.x[part]), structure(labels[part])


def described(report: PruningReport, step: PruneChannels) -> dict[str, Any]:
    """For the report's details."""
    channels = {
        change.name: {"before": change.channels_before, "after": change.channels_after}
        for change in report.layers
        if change.channels_before is not None
    }
    return {
        "importance": step.importance,
        "target": report.target.measure,
        "asked": amount_asked(report.target, step),
        "reached": amount_reached(report),
        "met": report.met,
        "parameters_before": report.parameters_before,
        "parameters_after": report.parameters_after,
        "macs_before": report.macs_before,
        "macs_after": report.macs_after,
        "channels": channels,
        "macs_assumed": dict(report.assumed),
    }


def warn_of_target(report: PruningReport, step: PruneChannels, context: Context) -> None:
    if not report.met:
        reached, asked = amount_reached(report), amount_asked(report.target, step)
        context.warn("target_not_reached", measure=report.target.measure, reached=reached, asked=asked)


def amount_asked(target: Target, step: PruneChannels) -> float:
    """In the words of the step: the share removed of channels, the share kept of the others."""
    return round(target.amount if isinstance(step.target, RemoveRatio) else 1 - target.amount, 6)


def amount_reached(report: PruningReport) -> float:
    return round(report.reached if report.target.measure == "channels" else 1 - report.reached, 6)
