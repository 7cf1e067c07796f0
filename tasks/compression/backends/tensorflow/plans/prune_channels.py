"""What a prune_channels step will do: the dependency graph and the choice of the real thing, without weights.

How many channels go under a ratio depends on no weight. Under a target of parameters or MACs, and for taylor,
weights decide which of several layers gives the last channels: those counts are estimates. Rounds end where a
single cut would; between them they are as if each had cut the network from before the first.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from featherweight.plan import PlannedLayer
from featherweight.spec import LayerSelection, PruneChannels, RemoveRatio
from tasks.compression.backends.tensorflow.structured import outlined
from tasks.compression.backends.tensorflow.structured.graph import kind
from tasks.compression.channel_request import (
    TAYLOR_SAMPLES,
    amount_asked,
    amount_reached,
    described,
    left_alone,
    refuse,
    request_of,
    round_described,
    without_effect,
)
from tasks.compression.outline.facts import Layer, Outline, Weight
from tasks.compression.outline.skeleton import graph_of
from tasks.compression.planning.costs import gradient_cost
from tasks.compression.planning.state import Context, State, select
from tasks.compression.structured import Plan as ChannelPlan
from tasks.compression.structured import PruningRequest, Rounds, consider
from tasks.compression.structured.groups import Bound, Dependencies
from tasks.compression.structured.importance import importance, rankable

__all__ = ["check", "plan"]


@dataclass(frozen=True)
class _Outlook:
    """What would go all at once, and what it was chosen by."""

    made: ChannelPlan
    request: PruningRequest
    scores: Any

    def rounds(self, count: int) -> list[ChannelPlan]:
        """What is gone after each of `count` rounds, from the network before the first."""
        rounds = Rounds.of(self.made.graph, self.request, count)
        asked = [rounds.asks(number) for number in range(1, count)]
        return [
            *(consider(self.made.graph, each, scores=self.scores) for each in asked),
            self.made,
        ]


def check(outline: Outline, step: PruneChannels, pointer: str) -> None:
    """As the handler's: CompressionError layer_not_found, layer_not_supported."""
    outlook = _considered(outline, step, pointer, seed=0)
    if outlook is not None:
        refuse(left_alone(_paths(outline), step, pointer, outlook.made), step, pointer)


def plan(state: State, step: PruneChannels, context: Context) -> State:
    outline, pointer = state.outline, context.pointer
    outlook = _considered(outline, step, pointer, seed=context.spec.seed)
    if outlook is None:
        context.warn("not_looked_at", what="Which channels go")
        return replace(state, guessed=True, guessed_zeros=True)
    made = outlook.made
    alone = left_alone(_paths(outline), step, pointer, made)
    refuse(alone, step, pointer)
    exact = isinstance(step.target, RemoveRatio) and _alike(made)
    reasons = {layer.name: layer.reason for layer in alone}
    _remark_on(outline, step, context, made, reasons)
    _note_layers(outline, step, context, made, reasons, exact)
    context.details.update(described(made.report, step), left_alone=reasons)
    rounds = outlook.rounds(step.iterations) if step.iterations > 1 else []
    if rounds:
        context.details.update(
            iterations=step.iterations,
            rounds=[
                round_described(number, each.report, step) for number, each in enumerate(rounds, start=1)
            ],
        )
    if step.importance == "taylor" and context.data is not None:
        samples = min(TAYLOR_SAMPLES, context.data.train)
        context.cost = gradient_cost(outline, samples * step.iterations)
    if made.alive.all():
        context.warn("nothing_changed", index=context.index, technique=step.technique)
        return state
    return replace(
        state,
        outline=_smaller(outline, made),
        rounds=tuple(_smaller(outline, each) for each in rounds),
        guessed=state.guessed or not exact,
        guessed_zeros=True,
        shared=frozenset(),
        held=frozenset(),
    )


def _remark_on(
    outline: Outline, step: PruneChannels, context: Context, made: ChannelPlan, alone: Mapping[str, str]
) -> None:
    for path, why in alone.items():
        context.warn("channels_left_alone", layer=path, why=why)
    for index in without_effect(_paths(outline), step, context.pointer, made):
        context.warn("override_unused", index=index)
    for path, how in made.report.assumed.items():
        context.warn("macs_assumed", layer=path, how=how)
    if not made.report.met:
        context.warn(
            "target_not_reached",
            measure=made.report.target.measure,
            reached=amount_reached(made.report),
            asked=amount_asked(made.report.target, step),
        )


def _paths(outline: Outline) -> Any:
    def paths(selection: LayerSelection, pointer: str) -> list[str]:
        return [layer.path for layer in select(outline, selection, pointer)]

    return paths


def _considered(outline: Outline, step: PruneChannels, pointer: str, *, seed: int) -> _Outlook | None:
    """None where the file does not describe all that channels go through."""
    request = request_of(_paths(outline), step, pointer, seed=seed)
    read = {number for call in outline.calls for number in call.inputs}.union(outline.outputs)
    if any(outline.tensors[number] is None for number in read):
        return None
    try:
        graph = outlined(graph_of(outline))
    except (AttributeError, IndexError, TypeError, ValueError):
        return None
    scores = _scores(graph, request)
    return _Outlook(consider(graph, request, scores=scores), request, scores)


def _alike(made: ChannelPlan) -> bool:
    """Whether the channels of a layer all cost the same. Those of two directions that have each their own
    size do not: which of them go, the weights decide."""
    return not any(
        kind(bound.layer) == "Bidirectional" and hasattr(bound.layer, "_backward_layer_config")
        for bound in made.graph.layers
    )


def _scores(graph: Dependencies, request: PruningRequest) -> Any:
    """All the same where weights or data decide."""
    if request.criterion == "random":
        return importance(graph, "random", seed=request.seed)
    return np.where(rankable(graph, request.criterion), 0.0, np.nan)


def _note_layers(
    outline: Outline,
    step: PruneChannels,
    context: Context,
    made: ChannelPlan,
    alone: Mapping[str, str],
    exact: bool,
) -> None:
    chosen = {layer.path for layer in select(outline, step.layers, f"{context.pointer}/layers")}
    kinds = {layer.path: layer.kind for layer in outline.layers}
    for change in made.report.layers:
        smaller = change.parameters_after < change.parameters_before
        action: Any = "change" if smaller and change.name not in alone else "leave_alone"
        if action == "leave_alone" and change.name not in chosen:
            action = "not_selected"
        numbers = ["parameters_after", "macs_after"]
        if change.channels_after is not None:
            numbers.insert(0, "channels_after")
        context.layers.append(
            PlannedLayer(
                layer=change.name,
                kind=kinds[change.name],
                action=action,
                reason=alone.get(change.name),
                channels_before=change.channels_before,
                channels_after=change.channels_after,
                parameters_before=change.parameters_before,
                parameters_after=change.parameters_after,
                macs_before=change.macs_before,
                macs_after=change.macs_after,
                estimated=[] if exact or not smaller else numbers,
            )
        )


def _smaller(outline: Outline, made: ChannelPlan) -> Outline:
    """The outline of what is left: shapes of weights and tensors, and the sizes in configurations."""
    bounds = {bound.name: bound for bound in made.graph.layers}
    layers = tuple(
        _cut(layer, bounds[layer.path], made) if layer.path in bounds else layer for layer in outline.layers
    )
    tensors = list(outline.tensors)
    for number, units in made.graph.labels.items():
        shape = tensors[number]
        if shape is not None and len(shape) > 1 and len(units):
            tensors[number] = (*shape[:-1], int(np.count_nonzero(made.alive[units])))
    return outline.model_copy(update={"layers": layers, "tensors": tuple(tensors)})


def _cut(layer: Layer, bound: Bound, made: ChannelPlan) -> Layer:
    shapes = {}
    for parameter in bound.parameters:
        shape = list(parameter.variable.shape)
        for number, axis in parameter.axes.items():
            shape[number] = int(np.count_nonzero(made.alive[axis.labels]))
        shapes[parameter.variable.name] = tuple(shape)
    config = copy.deepcopy(layer.config)
    for path, units in bound.sizes.items():
        _set(config, path, int(np.count_nonzero(made.alive[units])))
    weights = tuple(_shaped(weight, shapes.get(weight.name, weight.shape)) for weight in layer.weights)
    return layer.model_copy(update={"weights": weights, "config": config})


def _shaped(weight: Weight, shape: tuple[int, ...]) -> Weight:
    smaller = weight.model_copy(update={"shape": shape})
    zeros = round(weight.zeros * smaller.size / weight.size) if weight.size else 0
    return smaller.model_copy(update={"zeros": zeros})


def _set(config: dict[str, Any], path: tuple[str | int, ...], size: int) -> None:
    here: Any = config
    for part in path[:-1]:
        if isinstance(here, dict) and part not in here:
            return
        here = here[part]
    here[path[-1]] = size
