"""What finetune and distill will do: what they cost, and which zeros they keep."""

from __future__ import annotations

from dataclasses import replace

from featherweight.plan import PlannedLayer
from featherweight.spec import Distill, Finetune, LayerSelection
from tasks.compression.backends.tensorflow.feature_layers import refused_feature
from tasks.compression.errors import CompressionError
from tasks.compression.outline.facts import Outline, Weight
from tasks.compression.planning.costs import rounds_cost
from tasks.compression.planning.kinds import kinds_of
from tasks.compression.planning.layers import zero_share
from tasks.compression.planning.state import Context, State, select
from tasks.compression.prunability import KEEP_ZEROS_FROM

__all__ = ["check", "plan"]


def check(outline: Outline, step: Finetune | Distill, pointer: str) -> None:
    """As the handler's: CompressionError layer_not_found and layer_not_supported for `features`."""
    for index, pattern in enumerate(step.features if isinstance(step, Distill) else ()):
        try:
            chosen = select(outline, LayerSelection(include=(pattern,)), f"{pointer}/features")
        except CompressionError as error:
            error.pointer = f"{pointer}/features/{index}"
            raise
        for layer in () if kinds_of(outline).nested_features else chosen:
            if "/" in layer.path and layer.path != layer.name:
                raise refused_feature(layer.path, f"{pointer}/features/{index}")


def plan(state: State, step: Finetune | Distill, context: Context) -> State:
    """Weights are fitted: zeros stay where there were enough of them to be meant, others go."""
    check(state.outline, step, context.pointer)
    kinds = kinds_of(state.outline)
    changed: dict[str, tuple[Weight, ...]] = {}
    for layer in state.outline.listed():
        if not layer.weights:
            continue
        found = kinds.kernels(layer)
        kept = zero_share(found) >= KEEP_ZEROS_FROM
        names = {weight.name for weight in found} if kept else set()
        changed[layer.path] = tuple(
            weight.model_copy(
                update={
                    "distinct": weight.distinct if layer.path in state.shared else None,
                    "zeros": weight.zeros if weight.name in names else 0,
                }
            )
            for weight in layer.weights
        )
        frozen = layer.config.get("trainable") is False or (
            step.freeze_batch_norm and layer.kind in kinds.normalisations
        )
        context.layers.append(
            PlannedLayer(
                layer=layer.path,
                kind=layer.kind,
                action="leave_alone" if frozen else "train",
                reason="it is not trainable" if frozen else None,
                sparsity=zero_share(found) if kept else None,
            )
        )
    if step.freeze_batch_norm and not any(
        layer.kind in kinds.normalisations for layer in state.outline.layers
    ):
        context.warn("no_batch_norm")
    context.cost = rounds_cost(state.rounds or (state.outline,), step, context.data)
    context.details["carries_out"] = len(list(context.waiting()))
    if state.rounds:
        context.details["rounds"] = len(state.rounds)
    return replace(state.with_weights(changed), before_pruning=None, guessed_zeros=True, rounds=())
