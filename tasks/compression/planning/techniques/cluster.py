"""What a cluster step will do: which layers take few values, how many, and why not the others.

How many values there will be at most is known; that k-means finds use for all of them, as it nearly always
does, depends on the weights.
"""

from __future__ import annotations

from collections.abc import Iterator

from featherweight.plan import PlannedLayer
from featherweight.spec import Cluster, Prune
from tasks.compression.clusterability import no_sharing, refused
from tasks.compression.outline.facts import Layer, Outline, Weight
from tasks.compression.planning.kinds import Kinds, kinds_of
from tasks.compression.planning.state import Context, State, select
from tasks.compression.planning.techniques.prune import zero_share
from tasks.compression.prunability import KEEP_ZEROS_FROM
from tasks.compression.waiting import can_wait, carrier, waits

__all__ = ["check", "plan"]

_VECTORS = "it has no kernel: biases and statistics are never shared"


def check(outline: Outline, step: Cluster, pointer: str) -> None:
    """As the handler's: CompressionError layer_not_found, layer_not_supported."""
    _clusters(outline, step, pointer)
    for layer, why in _unsupported(outline, step, pointer):
        if step.on_unsupported == "error":
            raise refused(layer.path, why, pointer)


def plan(state: State, step: Cluster, context: Context) -> State:
    outline, pointer = state.outline, context.pointer
    check(outline, step, pointer)
    kinds = kinds_of(outline)
    asked = _clusters(outline, step, pointer)
    skipped = {layer.path: why for layer, why in _unsupported(outline, step, pointer)}
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
    for index in _unused(outline, step, pointer, asked):
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


def _clusters(outline: Outline, step: Cluster, pointer: str) -> dict[str, int]:
    """The layers the step changes, with the values for each: those of the first override that matches, else
    the step's."""
    kinds, found = kinds_of(outline), _overridden(outline, step, pointer)
    return {
        layer.path: step.overrides[found[layer.path]].clusters if layer.path in found else step.clusters
        for layer in select(outline, step.layers, f"{pointer}/layers")
        if kinds.kernels(layer)
    }


def _overridden(outline: Outline, step: Cluster, pointer: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for index, override in enumerate(step.overrides):
        for layer in select(outline, override.layers, f"{pointer}/overrides/{index}/layers"):
            found.setdefault(layer.path, index)
    return found


def _unused(outline: Outline, step: Cluster, pointer: str, asked: dict[str, int]) -> list[int]:
    """The overrides none of whose layers is changed, or not without an earlier override for it."""
    used = {index for path, index in _overridden(outline, step, pointer).items() if path in asked}
    return [index for index in range(len(step.overrides)) if index not in used]


def _unsupported(outline: Outline, step: Cluster, pointer: str) -> Iterator[tuple[Layer, str]]:
    kinds = kinds_of(outline)
    for layer in select(outline, step.layers, f"{pointer}/layers"):
        if not kinds.kernels(layer) and any(len(weight.shape) > 1 for weight in layer.weights):
            yield layer, no_sharing(kinds.called(layer))


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
