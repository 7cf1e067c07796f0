"""What a quantize step will do to a network without Keras layers: a ``.tflite`` or a SavedModel's graph."""

from __future__ import annotations

from dataclasses import dataclass, replace

from featherweight.plan import PlannedLayer
from featherweight.spec import Quantize
from tasks.compression.outline.facts import Outline, Weight
from tasks.compression.outline.operations import kernel
from tasks.compression.planning.state import Context, State, select
from tasks.compression.planning.techniques.calibrating import note_calibration
from tasks.compression.quantizing.weight_kernels import (
    none_as_asked,
    obstacle,
    refused_loops,
    weight_bits,
)

__all__ = ["check_program", "plan_program"]

_FLOAT = "float32"


@dataclass(frozen=True)
class _Operation:
    kind: str
    weights: Weight


def check_program(outline: Outline, step: Quantize, pointer: str) -> None:
    """CompressionError layer_not_found; layer_not_supported for a graph with loops whose ranges would be
    calibrated. The operations of a graph are known once it is converted."""
    if outline.kind == "tflite":
        select(outline, step.layers, f"{pointer}/layers")
    elif outline.loops and step.calibrates_ranges:
        raise refused_loops(step, pointer)


def plan_program(state: State, step: Quantize, context: Context) -> State:
    outline = state.outline
    check_program(outline, step, context.pointer)
    context.details["scheme"] = step.scheme
    dtypes: dict[str, str] = {}
    if outline.kind == "graph":
        context.warn("not_looked_at", what="Which operations of the graph are quantised")
        if outline.loops:
            context.warn("not_looked_at", what="Whether the loops of the graph can be converted")
        stored = "float16" if step.scheme == "float16" else f"int{weight_bits(step)}"
        dtypes = {layer.path: stored for layer in outline.layers if kernel(layer) is not None}
    else:
        context.layers += _layers(outline, step, context)
        dtypes = {layer.layer: layer.dtype or _FLOAT for layer in context.layers}
    note_calibration(outline, step, context)
    return replace(state, dtypes=dtypes, integers=step.calibrates_ranges)


def _layers(outline: Outline, step: Quantize, context: Context) -> list[PlannedLayer]:
    chosen = {layer.path for layer in select(outline, step.layers, f"{context.pointer}/layers")}
    found: list[PlannedLayer] = []
    for layer in outline.layers:
        weights = kernel(layer)
        if weights is None:
            continue
        planned = PlannedLayer(layer=layer.path, kind=layer.kind, action="not_selected", dtype=_FLOAT)
        if layer.path in chosen:
            planned = _planned(layer.path, _Operation(layer.kind, weights), step)
        if planned.reason is not None:
            context.warn("left_float", layer=layer.path, why=planned.reason)
        found.append(planned)
    if not step.calibrates_ranges and all(layer.dtype == _FLOAT for layer in found):
        reasons = [layer.reason for layer in found if layer.reason is not None]
        raise none_as_asked(next(iter(reasons), "none of them has weights"), context.pointer)
    return found


def _planned(path: str, operation: _Operation, step: Quantize) -> PlannedLayer:
    if step.calibrates_ranges:
        # Where the converter has no integer kernel it leaves an operation in float.
        return PlannedLayer(
            layer=path, kind=operation.kind, action="change", dtype="int8", estimated=["dtype"]
        )
    why = obstacle(operation, step)
    if why is not None:
        return PlannedLayer(layer=path, kind=operation.kind, action="leave_alone", reason=why, dtype=_FLOAT)
    dtype = "float16" if step.scheme == "float16" else f"int{weight_bits(step)}"
    return PlannedLayer(layer=path, kind=operation.kind, action="change", dtype=dtype)
