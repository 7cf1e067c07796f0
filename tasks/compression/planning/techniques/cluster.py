"""What a cluster step will do: which layers take few values, how many, and why not the others.

How many values there will be at most is known; that k-means finds use for all of them, as it nearly always
does, depends on the weights.
"""

from __future__ import annotations

from featherweight.plan import PlannedLayer
from featherweight.spec import Cluster, Prune
from tasks.compression import cluster_step
from tasks.compression.clusterable import clusterable, unsupported, unused_overrides
from tasks.compression.outline.facts import Layer, Outline, Weight
from tasks.compression.pending import Pending
from tasks.compression.planning.kinds import Kinds, kinds_of
from tasks.compression.planning.layers import zero_share
from tasks.compression.planning.state import Context, State, select
from tasks.compression.prunability import KEEP_ZEROS_FROM
from tasks.compression.waiting import can_wait, carrier, waits

__all__ = ["check", "plan"]

_VECTORS = "it has no kernel: biases and statistics are never shared"


def check(outline: Outline, step: Cluster, pointer: str) -> None:
    """As the handler's: CompressionError layer_not_found, layer_not_supported."""
    cluster_step.check(outline, step, pointer, kinds_of(outline).layers)


def plan(state: State, step: Cluster, context: Context) -> State:
    outline, pointer = state.outline, context.pointer
    check(outline, step, pointer)
    kinds, pending = kinds_of(outline), Pending(step, pointer)
    asked = clusterable(outline, pending, kinds.layers)
    skipped = {place.path: why for place, why in unsupported(outline, pending, kinds.layers)}
    chosen = {layer.path for layer in select(outline, step.layers, f"{pointer}/layers")}
    changed: dict[str, tuple[Weight, ...]] = {}
    for layer in outline.listed():
        if not layer.weights:
            continue
        if layer.path in asked:
            weights = _shared(layer, asked[layer.path], step, state, context, kinds)
            changed[layer.path] = weights
            context.layers.append(_described(layer, weights, asked[layer.path], kinds))
            continue
        selected = layer.path in chosen
        context.layers.append(
            PlannedLayer(
                layer=layer.path,
                kind=layer.kind,
                action="leave_alone" if selected else "not_selected",
                reason=skipped.get(layer.path, _VECTORS) if selected else None,
            )
        )
    for path, why in skipped.items():
        context.warn("layer_not_shared", layer=path, why=why)
    for index in unused_overrides(outline, pending, kinds.layers):
        context.warn("override_unused", index=index)
    if not asked:
        context.warn("nothing_changed", index=context.index, technique=step.technique)
    context.details.update(
        clusters=step.clusters,
        initialization=step.initialization,
        per_channel=step.per_channel,
        begin=step.begin if waits(step, context.following) else None,
        layers=asked,
    )
    return state.with_weights(changed, shared=state.shared | asked.keys())


def _described(layer: Layer, weights: tuple[Weight, ...], clusters: int, kinds: Kinds) -> PlannedLayer:
    names = {weight.name for weight in kinds.kernels(layer)}
    counts = [weight.distinct for weight in weights if weight.name in names]
    return PlannedLayer(
        layer=layer.path,
        kind=layer.kind,
        action="change",
        clusters=clusters,
        distinct_values=max((count for count in counts if count is not None), default=None),
        estimated=["distinct_values"],
    )


def _shared(
    layer: Layer, clusters: int, step: Cluster, state: State, context: Context, kinds: Kinds
) -> tuple[Weight, ...]:
    """The layer's weights as they will be at most: zeros that pruning made stay, and do not count."""
    found = kinds.kernels(layer)
    held = layer.path in state.held or zero_share(found) >= KEEP_ZEROS_FROM
    later = _pruned_later(context)
    trained = carrier(context.spec.steps, context.index) is not None
    if not later:
        alive = [
            _alive(weight, kinds.channels(layer, weight), step, held=held, trained=trained)
            for weight in found
        ]
        known = [count for count in alive if count is not None]
        if len(known) == len(alive) and max(known) <= clusters:
            where = " in a channel" if step.per_channel else ""
            context.warn("nothing_shared", layer=layer.path, count=max(known), where=where, clusters=clusters)
    names = {weight.name for weight in found}
    return tuple(
        _fewer(
            weight,
            kinds.channels(layer, weight),
            clusters,
            step,
            held=held,
            zero=held or later,
            trained=trained,
        )
        if weight.name in names
        else weight
        for weight in layer.weights
    )


def _pruned_later(context: Context) -> bool:
    """Whether a later step makes zeros at the same time."""
    for step in context.spec.steps[context.index + 1 :]:
        if not can_wait(step):
            return False
        if isinstance(step, Prune):
            return True
    return False


def _alive(weight: Weight, channels: int, step: Cluster, *, held: bool, trained: bool) -> int | None:
    """How many distinct values share `clusters`, in one kernel or the channel with the most of them. After a
    training all weights are taken to differ; None where the places of zeros would have to be known."""
    if step.per_channel:
        return None if held and weight.zeros else weight.size // channels
    left = weight.size - weight.zeros if held else weight.size
    if trained or weight.distinct is None:
        return left
    return min(left, weight.distinct - (1 if held and weight.zeros else 0))


def _fewer(
    weight: Weight, channels: int, clusters: int, step: Cluster, *, held: bool, zero: bool, trained: bool
) -> Weight:
    most = clusters * channels if step.per_channel else clusters
    left = weight.size - weight.zeros if held else weight.size
    most = min(most, left) + zero
    few = weight.distinct is not None and weight.distinct <= most and not trained
    return weight.model_copy(
        update={
            "distinct": weight.distinct if few else most,
            "zeros": weight.zeros if held or few else 0,
        }
    )
