"""What a prune step will do: which layers, to which sparsity, and why not the others."""

from __future__ import annotations

from featherweight.plan import PlannedLayer
from featherweight.spec import NOfM, Prune, PruningSchedule, Unstructured, XnnpackLatency
from tasks.compression import prune_step
from tasks.compression.mask_updates import sparsity_after
from tasks.compression.outline.facts import Layer, Outline, Weight
from tasks.compression.pending import Pending
from tasks.compression.planning.kinds import Kinds, kinds_of
from tasks.compression.planning.layers import zero_share
from tasks.compression.planning.state import Context, State, select
from tasks.compression.prunability import (
    KEEP_ZEROS_FROM,
    is_global,
    kept_weights,
    target,
    zero_share_of,
)
from tasks.compression.prunable import schedules, unsupported, unused_overrides
from tasks.compression.resolve import optimiser_steps, resolve_schedule
from tasks.compression.waiting import carrier

__all__ = ["check", "plan"]

_VECTORS = "it has no kernel: biases and statistics are never pruned"


def check(outline: Outline, step: Prune, pointer: str) -> None:
    """As the handler's: CompressionError layer_not_found, layer_not_supported. Whether XNNPACK's kernels can
    run a Keras model is not looked at."""
    kinds = kinds_of(outline)
    kinds.check(step, pointer)
    prune_step.check(outline, step, pointer, kinds.pruning)


def plan(state: State, step: Prune, context: Context) -> State:
    outline, pointer = state.outline, context.pointer
    check(outline, step, pointer)
    follows = any(isinstance(waiting, Prune) for waiting in context.waiting())
    before = state.before_pruning if follows and state.before_pruning is not None else outline
    kinds, pending = kinds_of(outline), Pending(step, pointer)
    along = schedules(outline, pending, kinds.pruning)
    skipped = {place.path: why for place, why in unsupported(outline, pending, kinds.pruning)}
    chosen = {layer.path for layer in select(outline, step.layers, f"{pointer}/layers")}
    earlier = {layer.path: layer for layer in before.layers}
    changed: dict[str, tuple[Weight, ...]] = {}
    for layer in outline.listed():
        if not layer.weights:
            continue
        if layer.path in along:
            planned, weights = _pruned(_unpruned(layer, earlier), step, along[layer.path], context, kinds)
            changed[layer.path] = weights
        else:
            planned = _left(layer, step, layer.path in chosen, skipped.get(layer.path), kinds)
        context.layers.append(planned)
    for path, why in skipped.items():
        context.warn("layer_skipped", layer=path, why=why)
    for index in unused_overrides(outline, pending, kinds.pruning):
        context.warn("override_unused", index=index)
    if not along:
        context.warn("nothing_changed", index=context.index, technique=step.technique)
    if isinstance(step.pattern, XnnpackLatency):
        context.warn("not_looked_at", what="Whether XNNPACK's sparse kernels can run the model")
    context.details.update(method=step.method, pattern=step.pattern.type, layers=len(along))
    if is_global(step) and along:
        context.details["sparsity"] = target(step, step.schedule)
    guessed = any("sparsity" in layer.estimated for layer in context.layers)
    return state.with_weights(
        changed,
        before_pruning=before,
        guessed_zeros=state.guessed_zeros or guessed,
        held=state.held | along.keys(),
    )


def _left(layer: Layer, step: Prune, selected: bool, why: str | None, kinds: Kinds) -> PlannedLayer:
    found = kinds.kernels(layer)
    if not selected:
        return PlannedLayer(
            layer=layer.path,
            kind=layer.kind,
            action="not_selected",
            sparsity=zero_share(found) if found else None,
        )
    reason = why or kinds.pruning.left_out(layer, step) or _VECTORS
    return PlannedLayer(layer=layer.path, kind=layer.kind, action="leave_alone", reason=reason)


def _pruned(
    layer: Layer, step: Prune, schedule: PruningSchedule, context: Context, kinds: Kinds
) -> tuple[PlannedLayer, tuple[Weight, ...]]:
    """What becomes of a layer, from the zeros it had before the first of several prune steps."""
    found = kinds.kernels(layer)
    share = zero_share(found)
    floor = share if share >= KEEP_ZEROS_FROM else 0.0
    asked = target(step, schedule)
    reached = _reached(step, schedule, asked, context)
    plain = isinstance(step.pattern, Unstructured | XnnpackLatency)
    estimated = ["sparsity"] if is_global(step) or (step.method == "random" and share) else []
    if not plain and share:
        estimated = ["sparsity"]
    aim = max(reached, floor) if plain else reached
    if not is_global(step) and plain:
        zeros = {item.name: max(item.size - kept_weights(item.size, aim), item.zeros) for item in found}
    else:
        made = zero_share_of([weight.size for weight in found], step, aim) if not plain else aim
        zeros = {item.name: max(round(made * item.size), item.zeros if floor else 0) for item in found}
    if is_global(step):
        estimated = ["target_sparsity", "sparsity"]
    weights = tuple(
        weight.model_copy(update={"zeros": zeros[weight.name]}) if weight.name in zeros else weight
        for weight in layer.weights
    )
    after = zero_share(kinds.kernels(layer.model_copy(update={"weights": weights})))
    planned = PlannedLayer(
        layer=layer.path,
        kind=layer.kind,
        action="change",
        target_sparsity=asked,
        sparsity=after,
        estimated=estimated,
    )
    return planned, weights


def _unpruned(layer: Layer, earlier: dict[str, Layer]) -> Layer:
    """With the zeros it had before the first of several prune steps, and the values it has now."""
    zeros = {weight.name: weight.zeros for weight in earlier[layer.path].weights}
    weights = (weight.model_copy(update={"zeros": zeros[weight.name]}) for weight in layer.weights)
    return layer.model_copy(update={"weights": tuple(weights)})


def _reached(step: Prune, schedule: PruningSchedule, asked: float, context: Context) -> float:
    """The sparsity at the end of the training that carries the step out, which is said where it is less."""
    training = carrier(context.spec.steps, context.index)
    if training is None or context.data is None:
        return asked
    steps = optimiser_steps(context.data.train, training)
    resolved = resolve_schedule(schedule, steps, f"{context.pointer}/schedule")
    end, last = sparsity_after(resolved, steps)
    if end <= steps:
        return asked
    reached = asked if isinstance(step.pattern, NOfM) and last > 0 else last
    if reached < asked - 1e-6 and not any(
        warning.code == "schedule_ends_late" for warning in context.warnings
    ):
        context.warn("schedule_ends_late", end=end, steps=steps, target=asked, reached=reached)
    return reached
