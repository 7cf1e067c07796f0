"""What a quantize_aware step will do: which layers learn to be rounded, and what they are stored as."""

from __future__ import annotations

from dataclasses import replace

from featherweight.plan import PlannedLayer
from featherweight.spec import QuantizeAware
from tasks.compression.backends.tensorflow.plans.operations import OPERATIONS
from tasks.compression.backends.tensorflow.qat.support import support
from tasks.compression.outline.facts import Layer, Outline
from tasks.compression.outline.skeleton import graph_of
from tasks.compression.planning.state import Context, State, select
from tasks.compression.rounding_choice import Chosen, choose

__all__ = ["check", "plan"]

_FLOAT = "float32"


def check(outline: Outline, step: QuantizeAware, pointer: str) -> None:
    """As the handler's: CompressionError layer_not_found, layer_not_supported."""
    _chosen(outline, step, pointer)


def plan(state: State, step: QuantizeAware, context: Context) -> State:
    choice = _chosen(state.outline, step, context.pointer)
    stored = "int4" if step.weight_bits <= 4 else "int8"
    dtypes: dict[str, str] = {}
    for layer in state.outline.listed():
        if not layer.weights:
            continue
        planned = _planned(layer, choice, stored)
        context.layers.append(planned)
        dtypes[layer.path] = planned.dtype or _FLOAT
    for path, why in choice.left_float.items():
        context.warn("computed_in_float", layer=path, why=why)
    context.warn("not_looked_at", what="For which of these layers the converter has integer kernels")
    context.details.update(
        weight_bits=step.weight_bits, activation_bits=step.activation_bits, layers=len(choice.quantized)
    )
    return replace(state, dtypes=dtypes, integers=True, levels=2**step.weight_bits)


def _chosen(outline: Outline, step: QuantizeAware, pointer: str) -> Chosen:
    selected = {
        layer.path: any(len(weight.shape) > 1 for weight in layer.weights)
        for layer in select(outline, step.layers, f"{pointer}/layers")
        if layer.kind != "InputLayer"
    }
    everything = [layer.path for layer in outline.listed()]
    return choose(selected, everything, support(graph_of(outline)), step, pointer)


def _planned(layer: Layer, choice: Chosen, stored: str) -> PlannedLayer:
    matrix = any(len(weight.shape) > 1 for weight in layer.weights)
    if layer.path not in choice.quantized:
        why = choice.left_float.get(layer.path)
        return PlannedLayer(
            layer=layer.path,
            kind=layer.kind,
            action="not_selected" if why is None else "leave_alone",
            reason=why,
            dtype=_FLOAT if matrix else None,
            # The converter rounds what stands between rounded layers, whatever was selected.
            estimated=["dtype"] if matrix and why is None else [],
        )
    # What the converter makes of other layers is not told apart in the file.
    return PlannedLayer(
        layer=layer.path,
        kind=layer.kind,
        action="change",
        dtype=stored if matrix else None,
        estimated=["dtype"] if matrix and layer.kind not in OPERATIONS else [],
    )
