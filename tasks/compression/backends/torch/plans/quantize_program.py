"""What a quantize step will do to an ``.onnx``."""

from __future__ import annotations

from dataclasses import replace

from featherweight.plan import PlannedLayer
from featherweight.spec import Quantize
from tasks.compression.outline.facts import Outline
from tasks.compression.outline.operations import kernel
from tasks.compression.planning.costs import forward_cost
from tasks.compression.planning.state import Context, State, select
from tasks.compression.quantizing.formats import lacking
from tasks.compression.quantizing.onnx_kernels import none_narrow, obstacle, stored_as

__all__ = ["check", "plan"]

_FLOAT = "float32"


def check(outline: Outline, step: Quantize, pointer: str) -> None:
    """CompressionError layer_not_found."""
    select(outline, step.layers, f"{pointer}/layers")


def plan(state: State, step: Quantize, context: Context) -> State:
    outline = state.outline
    context.details["scheme"] = step.scheme
    if {*context.spec.outputs} != {"onnx"}:
        context.warn(
            "not_looked_at", what="Whether the .onnx can be converted to other formats, and what they hold"
        )
    if "onnx" not in context.spec.outputs or lacking("onnx", step) is not None:
        check(outline, step, context.pointer)
        return replace(state, guessed=True)
    context.layers += _layers(outline, step, context)
    if step.calibrates_ranges and context.data is not None:
        samples = min(step.calibration_samples, context.data.train)
        context.details["calibration_samples"] = samples
        context.cost = forward_cost(outline, samples)
    dtypes = {layer.layer: layer.dtype or _FLOAT for layer in context.layers}
    formats = frozenset(output for output in context.spec.outputs if lacking(output, step) is None)
    return replace(state, dtypes=dtypes, integers=step.calibrates_ranges, formats=formats)


def _layers(outline: Outline, step: Quantize, context: Context) -> list[PlannedLayer]:
    chosen = {layer.path for layer in select(outline, step.layers, f"{context.pointer}/layers")}
    found: list[PlannedLayer] = []
    for layer in outline.layers:
        if kernel(layer) is None:
            continue
        why = obstacle(layer.kind, step)
        if layer.path not in chosen:
            told = PlannedLayer(layer=layer.path, kind=layer.kind, action="not_selected", dtype=_FLOAT)
        elif why is not None:
            told = PlannedLayer(
                layer=layer.path, kind=layer.kind, action="leave_alone", reason=why, dtype=_FLOAT
            )
            context.warn("left_float", layer=layer.path, why=why)
        else:
            told = PlannedLayer(
                layer=layer.path, kind=layer.kind, action="change", dtype=stored_as(layer.kind, step)
            )
        found.append(told)
    if all(layer.dtype == _FLOAT for layer in found):
        reasons = [layer.reason for layer in found if layer.reason is not None]
        raise none_narrow(next(iter(reasons), None), context.pointer)
    return found
