"""Structured pruning: whole channels removed, by the package `structured`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from glob import escape
from typing import Any

import numpy as np

from featherweight.spec import KeepParameters, LayerSelection, PruneChannels, RemoveRatio
from tasks.compression.backends.tensorflow.fit import loss_of
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
from tasks.compression.workspace import LayerNote

__all__ = ["check", "prune_channels"]

# Of the training split: gradients of small batches, so that what one sample needs is not averaged away.
TAYLOR_BATCH = 8
TAYLOR_SAMPLES = 1024


def check(network: Network, step: PruneChannels, pointer: str) -> None:
    """CompressionError unsupported_model; layer_not_found; layer_not_supported where the step says ``error``
    and a selected layer cannot lose channels."""
    request = _request(network.model, step, pointer, seed=0)
    if request.criterion == "taylor":  # What cannot be removed does not depend on the data.
        request = replace(request, criterion="random")
    _refuse(_left_alone(network.model, step, pointer, consider(network.model, request)), step, pointer)


def prune_channels(network: Network, step: PruneChannels, context: Context) -> Network:
    """Remove channels at once; where none can go the network comes back as it is, and the report says why.

    CompressionError layer_not_supported as `check`, for a network that earlier steps changed; not_finite for
    gradients that are not.
    """
    model = network.model
    request = _request(model, step, context.pointer, seed=context.seed)
    batches, loss = None, None
    if request.criterion == "taylor":
        batches, loss = _batches(context), loss_of(context.training_data.objective)
    plan = consider(model, request, batches=batches, loss=loss)
    alone = _left_alone(model, step, context.pointer, plan)
    _refuse(alone, step, context.pointer)
    for layer in alone:
        context.record.layers[layer.name] = LayerNote(skipped=layer.reason)
        context.warn("channels_left_alone", layer=layer.name, why=layer.reason)
    for index in _without_effect(model, step, context.pointer, plan):
        context.warn("override_unused", index=index)
    _note(plan.report, step, alone, context)
    if plan.alive.all():
        return network
    return replace(network, model=carry_out(plan).model, pruned={}, shared={}, tflite=None)


def _request(model: Any, step: PruneChannels, pointer: str, *, seed: int) -> PruningRequest:
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


def _overridden(model: Any, step: PruneChannels, pointer: str) -> dict[str, int]:
    """The first override that matches each layer."""
    found: dict[str, int] = {}
    for index, override in enumerate(step.overrides):
        for path in _paths(model, override.layers, f"{pointer}/overrides/{index}/layers"):
            found.setdefault(path, index)
    return found


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


def _paths(model: Any, selection: LayerSelection, pointer: str) -> list[str]:
    return [place.path for place in select(model, selection, pointer)]


def _left_alone(model: Any, step: PruneChannels, pointer: str, plan: Plan) -> list[Untouched]:
    """The selected layers that make channels and cannot lose any."""
    chosen = set(_paths(model, step.layers, f"{pointer}/layers"))
    return [layer for layer in plan.report.untouched if layer.name in chosen]


def _refuse(alone: list[Untouched], step: PruneChannels, pointer: str) -> None:
    if alone and step.on_unsupported == "error":
        first = alone[0]
        raise CompressionError(
            "layer_not_supported",
            f"the layer {first.name} was selected and cannot lose channels: {first.reason}",
            hint="exclude it, or set on_unsupported to skip",
            layer=first.name,
            pointer=f"{pointer}/layers",
        )


def _batches(context: Context) -> Iterator[tuple[Any, Any]]:
    """Of the training split alone, drawn with the job's seed."""
    data = context.training_data
    drawn = np.random.default_rng(context.seed).permutation(data.train)[:TAYLOR_SAMPLES]
    parts = np.array_split(drawn, math.ceil(len(drawn) / TAYLOR_BATCH))
    for number, part in enumerate(parts, start=1):
        yield data.x[part], data.objective.labels[part]
        context.progress.advance(number, len(parts))


def _note(report: PruningReport, step: PruneChannels, alone: list[Untouched], context: Context) -> None:
    channels = {
        layer.name: {"before": layer.channels_before, "after": layer.channels_after}
        for layer in report.layers
        if layer.channels_before is not None
    }
    context.record.details.update(
        importance=step.importance,
        target=report.target.measure,
        asked=_asked(step),
        reached=round(_reached(report), 6),
        met=report.met,
        parameters_before=report.parameters_before,
        parameters_after=report.parameters_after,
        macs_before=report.macs_before,
        macs_after=report.macs_after,
        channels=channels,
        left_alone={layer.name: layer.reason for layer in alone},
    )
    if not report.met:
        measure, reached = report.target.measure, _reached(report)
        context.warn("target_not_reached", measure=measure, reached=reached, asked=_asked(step))


def _asked(step: PruneChannels) -> float:
    """In the words of the step: the share removed of channels, the share kept of the others."""
    return step.target.remove if isinstance(step.target, RemoveRatio) else step.target.keep


def _reached(report: PruningReport) -> float:
    return report.reached if report.target.measure == "channels" else 1 - report.reached
