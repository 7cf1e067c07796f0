"""What a quantize step will do to a PyTorch model: the type each layer's weights will have in the
``.tflite``, and which other formats hold integers."""

from __future__ import annotations

from dataclasses import replace

from featherweight.plan import PlannedLayer
from featherweight.spec import Quantize
from tasks.compression.backends.torch.plans import quantize_program
from tasks.compression.backends.torch.plans.operations import in_file, is_exact, ranks
from tasks.compression.outline.facts import Layer, Outline
from tasks.compression.outputs import PROGRAMS
from tasks.compression.planning.operations import PlannedOperation, PlannedWeights
from tasks.compression.planning.state import Context, State, select
from tasks.compression.planning.techniques.calibrating import note_calibration
from tasks.compression.quantizing.formats import QUANTISED, lacking, none_offered
from tasks.compression.quantizing.weight_kernels import none_as_asked, obstacle, weight_bits

__all__ = ["check", "plan"]

_FLOAT = "float32"


def check(outline: Outline, step: Quantize, pointer: str) -> None:
    """As the handler's: CompressionError layer_not_found."""
    select(outline, step.layers, f"{pointer}/layers")


def plan(state: State, step: Quantize, context: Context) -> State:
    """CompressionError unsupported_output where no output can be had as asked; layer_not_supported where no
    layer can."""
    outline, pointer = state.outline, context.pointer
    if outline.kind == "onnx":
        return quantize_program.plan(state, step, context)
    check(outline, step, pointer)
    offered = _offered(step, context)
    chosen = {layer.path for layer in select(outline, step.layers, f"{pointer}/layers")}
    axes = ranks(outline)
    found = [
        _planned(layer, step, layer.path in chosen, is_exact(layer, axes))
        for layer in outline.listed()
        if any(len(weight.shape) > 1 for weight in layer.weights)
    ]
    context.layers += found
    context.details["scheme"] = step.scheme
    note_calibration(outline, step, context)
    if PROGRAMS.isdisjoint(offered):
        return replace(state, dtypes=_dtypes(found), integers=step.calibrates_ranges, formats=offered)
    for layer in found:
        if layer.action == "leave_alone" and not layer.estimated:
            context.warn("left_float", layer=layer.layer, why=layer.reason)
    certain = all(not layer.estimated for layer in found)
    if certain and found and all(layer.dtype == _FLOAT for layer in found):
        reasons = [layer.reason for layer in found if layer.reason]
        raise none_as_asked(next(iter(reasons), "none of them has weights"), pointer)
    return replace(state, dtypes=_dtypes(found), integers=step.calibrates_ranges, formats=offered)


def _offered(step: Quantize, context: Context) -> frozenset[str]:
    """The outputs that hold integers."""
    why = {output: lacking(output, step) for output in context.spec.outputs}
    offered = frozenset(output for output, reason in why.items() if reason is None)
    if not offered:
        raise none_offered(list(why.values()), f"{context.pointer}/scheme")
    for output, reason in why.items():
        if reason is not None and output in QUANTISED:
            context.warn("output_left_float", output=output, why=reason)
    others = sorted(offered - PROGRAMS)
    if others:
        context.warn("not_looked_at", what=f"Which layers have integers in {', '.join(others)}")
    return offered


def _dtypes(layers: list[PlannedLayer]) -> dict[str, str]:
    return {layer.layer: layer.dtype or _FLOAT for layer in layers}


def _planned(layer: Layer, step: Quantize, selected: bool, exact: bool) -> PlannedLayer:
    if not selected:
        return PlannedLayer(layer=layer.path, kind=layer.kind, action="not_selected", dtype=_FLOAT)
    dtype, why = _stored_as(layer, step)
    return PlannedLayer(
        layer=layer.path,
        kind=layer.kind,
        action="change" if why is None else "leave_alone",
        reason=why,
        dtype=dtype,
        estimated=[] if exact else ["dtype"],
    )


def _stored_as(layer: Layer, step: Quantize) -> tuple[str, str | None]:
    """The type of the layer's weights, and why they stay float."""
    if step.calibrates_ranges:
        return "int8", None
    bits = weight_bits(step)
    dtype = "float16" if bits == 16 else f"int{bits}"
    operation = in_file(layer)
    if operation is None:
        return dtype, None
    kind, shape = operation
    why = obstacle(PlannedOperation(kind, PlannedWeights(shape)), step)
    return (dtype, None) if why is None else (_FLOAT, why)
