"""What a quantize_aware step will do: which layers learn to be rounded, and what they are stored as."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from featherweight.plan import PlannedLayer
from featherweight.spec import QuantizeAware
from tasks.compression.outline.facts import Layer, Outline
from tasks.compression.planning.state import Context, State, select
from tasks.compression.rounding_choice import Chosen, Support, choose

__all__ = ["chosen", "planned"]

_FLOAT = "float32"


def chosen(outline: Outline, step: QuantizeAware, pointer: str, support: Support) -> Chosen:
    """CompressionError layer_not_found, layer_not_supported."""
    selected = {
        layer.path: any(len(weight.shape) > 1 for weight in layer.weights)
        for layer in select(outline, step.layers, f"{pointer}/layers")
        if layer.kind != "InputLayer"
    }
    everything = [layer.path for layer in outline.listed()]
    return choose(selected, everything, support, step, pointer)


def planned(
    state: State,
    step: QuantizeAware,
    context: Context,
    choice: Chosen,
    *,
    narrow: Callable[[Layer], bool],
    exact: Callable[[Layer], bool],
) -> State:
    """`narrow` says whether there is a kernel for a layer with fewer than 8 bits, `exact` whether the type of
    its weights in the file is known beforehand."""
    dtypes: dict[str, str] = {}
    for layer in state.outline.listed():
        if layer.weights:
            stored = "int4" if step.weight_bits <= 4 and narrow(layer) else "int8"
            found = _planned(layer, choice, stored, exact(layer))
            context.layers.append(found)
            dtypes[layer.path] = found.dtype or _FLOAT
    for path, why in choice.left_float.items():
        context.warn("computed_in_float", layer=path, why=why)
    context.warn("not_looked_at", what="For which of these layers the converter has integer kernels")
    context.details.update(
        weight_bits=step.weight_bits, activation_bits=step.activation_bits, layers=len(choice.quantized)
    )
    return replace(state, dtypes=dtypes, integers=True, levels=2**step.weight_bits)


def _planned(layer: Layer, choice: Chosen, stored: str, exact: bool) -> PlannedLayer:
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
    return PlannedLayer(
        layer=layer.path,
        kind=layer.kind,
        action="change",
        dtype=stored if matrix else None,
        estimated=["dtype"] if matrix and not exact else [],
    )
