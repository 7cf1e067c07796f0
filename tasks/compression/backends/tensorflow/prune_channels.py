"""Structured pruning: whole channels removed, by the package `structured`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from featherweight.spec import PruneChannels
from tasks.compression.backends.tensorflow.channel_request import (
    Paths,
    asked,
    left_alone,
    reached,
    refuse,
    request_of,
    without_effect,
)
from tasks.compression.backends.tensorflow.fit import loss_of
from tasks.compression.backends.tensorflow.layers import select
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.structured import PruningReport, Untouched, carry_out, consider
from tasks.compression.context import Context
from tasks.compression.workspace import LayerNote

__all__ = ["check", "prune_channels"]

# Of the training split: gradients of small batches, so that what one sample needs is not averaged away.
TAYLOR_BATCH = 8
TAYLOR_SAMPLES = 1024


def check(network: Network, step: PruneChannels, pointer: str) -> None:
    """CompressionError unsupported_model; layer_not_found; layer_not_supported where the step says ``error``
    and a selected layer cannot lose channels."""
    paths = _paths(network.model)
    request = request_of(paths, step, pointer, seed=0)
    if request.criterion == "taylor":  # What cannot be removed does not depend on the data.
        request = replace(request, criterion="random")
    refuse(left_alone(paths, step, pointer, consider(network.model, request)), step, pointer)


def prune_channels(network: Network, step: PruneChannels, context: Context) -> Network:
    """Remove channels at once; where none can go the network comes back as it is, and the report says why.

    CompressionError layer_not_supported as `check`, for a network that earlier steps changed; not_finite for
    gradients that are not.
    """
    model = network.model
    paths = _paths(model)
    request = request_of(paths, step, context.pointer, seed=context.seed)
    batches, loss = None, None
    if request.criterion == "taylor":
        batches, loss = _batches(context), loss_of(context.training_data.objective)
    plan = consider(model, request, batches=batches, loss=loss)
    alone = left_alone(paths, step, context.pointer, plan)
    refuse(alone, step, context.pointer)
    for layer in alone:
        context.record.layers[layer.name] = LayerNote(skipped=layer.reason)
        context.warn("channels_left_alone", layer=layer.name, why=layer.reason)
    for index in without_effect(paths, step, context.pointer, plan):
        context.warn("override_unused", index=index)
    _note(plan.report, step, alone, context)
    if plan.alive.all():
        return network
    return replace(network, model=carry_out(plan).model, pruned={}, tflite=None)


def _paths(model: Any) -> Paths:
    return lambda selection, pointer: [place.path for place in select(model, selection, pointer)]


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
        asked=asked(step),
        reached=round(reached(report), 6),
        met=report.met,
        parameters_before=report.parameters_before,
        parameters_after=report.parameters_after,
        macs_before=report.macs_before,
        macs_after=report.macs_after,
        channels=channels,
        left_alone={layer.name: layer.reason for layer in alone},
    )
    if not report.met:
        measure, share = report.target.measure, reached(report)
        context.warn("target_not_reached", measure=measure, reached=share, asked=asked(step))
