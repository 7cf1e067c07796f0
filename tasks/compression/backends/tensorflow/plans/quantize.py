"""What a quantize step will do: the type each layer's weights will have in the file."""

from __future__ import annotations

from dataclasses import replace

from featherweight.plan import PlannedLayer
from featherweight.spec import LayerSelection, Quantize
from tasks.compression.backends.tensorflow.plans.operations import OPERATIONS
from tasks.compression.backends.tensorflow.plans.quantize_program import check_program, plan_program
from tasks.compression.outline.facts import Layer, Outline
from tasks.compression.planning.operations import PlannedOperation, PlannedWeights
from tasks.compression.planning.state import Context, State, select
from tasks.compression.planning.techniques.calibrating import note_calibration
from tasks.compression.quantizing.weight_kernels import (
    LOOPS,
    none_as_asked,
    obstacle,
    refused_loop,
    weight_bits,
)

__all__ = ["check", "plan"]

_UNTRACED = "its operations cannot be told apart in the file"
_FLOAT = "float32"


def check(outline: Outline, step: Quantize, pointer: str) -> None:
    """As the handler's: CompressionError layer_not_found, layer_not_supported."""
    if outline.kind != "keras":
        check_program(outline, step, pointer)
        return
    select(outline, step.layers, f"{pointer}/layers")
    if not step.calibrates_ranges:
        return
    for layer in outline.listed():
        kind = _inner_kind(layer)
        if kind in LOOPS:
            raise refused_loop(kind, layer.path, step, pointer)


def plan(state: State, step: Quantize, context: Context) -> State:
    outline, pointer = state.outline, context.pointer
    if outline.kind != "keras":
        return plan_program(state, step, context)
    check(outline, step, pointer)
    everything = {layer.path for layer in select(outline, LayerSelection(), pointer)}
    chosen = {layer.path for layer in select(outline, step.layers, f"{pointer}/layers")}
    all_selected = chosen == everything
    dtypes: dict[str, str] = {}
    reasons: list[str] = []
    for layer in outline.listed():
        if not any(len(weight.shape) > 1 for weight in layer.weights):
            continue
        planned = _planned(layer, step, layer.path in chosen, all_selected)
        context.layers.append(planned)
        dtypes[layer.path] = planned.dtype or _FLOAT
        if planned.action == "leave_alone" and planned.reason:
            if planned.reason != _UNTRACED:
                reasons.append(planned.reason)
            context.warn("left_float", layer=layer.path, why=planned.reason)
    if all(dtype == _FLOAT for dtype in dtypes.values()) and context.layers:
        if _by_operation(step, all_selected):
            raise none_as_asked(next(iter(reasons), "none of them has weights"), pointer)
        context.warn("nothing_changed", index=context.index, technique=step.technique)
    context.details["scheme"] = step.scheme
    note_calibration(outline, step, context)
    return replace(state, dtypes=dtypes, integers=step.calibrates_ranges)


def _inner_kind(layer: Layer) -> str:
    inner = layer.config.get("layer") if layer.kind == "Bidirectional" else None
    return str(inner["class_name"]) if isinstance(inner, dict) else layer.kind


def _by_operation(step: Quantize, all_selected: bool) -> bool:
    """Whether operations are quantised one by one, each after its own check."""
    if step.calibrates_ranges:
        return False
    return step.scheme not in ("float16", "dynamic_int8") or not all_selected


def _planned(layer: Layer, step: Quantize, selected: bool, all_selected: bool) -> PlannedLayer:
    if not selected:
        return PlannedLayer(layer=layer.path, kind=layer.kind, action="not_selected", dtype=_FLOAT)
    operations = [
        (kind, weight.shape)
        for kind, name in OPERATIONS.get(layer.kind, ())
        if (weight := layer.weight(name)) is not None
    ]
    if not operations:
        return _untraced(layer, step, all_selected)
    found: dict[str, None] = {}
    why = None
    for kind, shape in operations:
        dtype, reason = _stored_as(kind, shape, layer, step, all_selected)
        found[dtype] = None
        why = reason or why
    dtype = "+".join(sorted(found))
    alone = _FLOAT in found
    return PlannedLayer(
        layer=layer.path,
        kind=layer.kind,
        action="leave_alone" if alone else "change",
        reason=why if alone else None,
        dtype=dtype,
        estimated=["dtype"] if layer.kind == "Embedding" else [],
    )


def _stored_as(
    kind: str, shape: tuple[int, ...], layer: Layer, step: Quantize, all_selected: bool
) -> tuple[str, str | None]:
    """The type of one operation's weights, and why they stay float."""
    if step.calibrates_ranges:
        return "int8", None
    if step.scheme == "float16" and all_selected:
        return "float16", None
    why = obstacle(PlannedOperation(kind, PlannedWeights(_in_file(kind, shape))), step)
    if why is not None:
        return _FLOAT, why
    bits = weight_bits(step)
    return ("float16" if bits == 16 else f"int{bits}"), None


def _in_file(kind: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """As LiteRT stores them: inputs last."""
    if kind == "FULLY_CONNECTED":
        return shape[::-1]
    if kind == "CONV_2D":
        return (shape[-1], *shape[:-1])
    return (1, *shape[:-2], shape[-2] * shape[-1]) if kind == "DEPTHWISE_CONV_2D" else shape


def _untraced(layer: Layer, step: Quantize, all_selected: bool) -> PlannedLayer:
    if _by_operation(step, all_selected):
        return PlannedLayer(
            layer=layer.path, kind=layer.kind, action="leave_alone", reason=_UNTRACED, dtype=_FLOAT
        )
    dtype = "float16" if step.scheme == "float16" else "int8"
    return PlannedLayer(layer=layer.path, kind=layer.kind, action="change", dtype=dtype, estimated=["dtype"])
