"""What a quantize_aware step will do to a PyTorch model: which layers learn to be rounded, and why not the
others."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from featherweight.plan import PlannedLayer
from featherweight.spec import QuantizeAware
from tasks.compression.backends.torch.plans.operations import is_exact, ranks, single_channels
from tasks.compression.backends.torch.qat.support import FOLDED_INTO, NORMS, obstacle
from tasks.compression.outline.facts import Call, Layer, Outline
from tasks.compression.planning.state import Context, State, select
from tasks.compression.rounding_choice import Chosen, Support, choose

__all__ = ["check", "plan"]

_FLOAT = "float32"


def check(outline: Outline, step: QuantizeAware, pointer: str) -> None:
    """As the handler's: CompressionError layer_not_found, layer_not_supported."""
    _chosen(outline, step, pointer)


def plan(state: State, step: QuantizeAware, context: Context) -> State:
    outline = state.outline
    choice, axes = _chosen(outline, step, context.pointer), ranks(outline)
    dtypes: dict[str, str] = {}
    for layer in outline.listed():
        if layer.weights:
            planned = _planned(layer, choice, step, is_exact(layer, axes))
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
    }
    everything = [layer.path for layer in outline.listed()]
    return choose(selected, everything, _support(outline), step, pointer)


def _support(outline: Outline) -> Support:
    layers = {layer.path: layer for layer in outline.listed()}
    times = Counter(call.layer for call in outline.calls)
    obstacles = {
        path: "the network calls it at several places"
        if times[path] > 1
        else obstacle(layer.kind, int(layer.config.get("groups", 1)))
        for path, layer in layers.items()
    }
    users: dict[int, list[Call]] = {}
    for call in outline.calls:
        for number in dict.fromkeys(call.inputs):
            users.setdefault(number, []).append(call)
    folds = {}
    for call in outline.calls:
        after = [each for number in call.outputs for each in users.get(number, ())]
        ends = any(number in outline.outputs for number in call.outputs)
        if ends or len(after) != 1 or call.layer not in layers or layers[call.layer].kind not in FOLDED_INTO:
            continue
        if after[0].layer in layers and layers[after[0].layer].kind in NORMS:
            folds[after[0].layer] = call.layer
    norms = frozenset(path for path, layer in layers.items() if layer.kind in NORMS)
    return Support(obstacles, norms, folds)


def _planned(layer: Layer, choice: Chosen, step: QuantizeAware, exact: bool) -> PlannedLayer:
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
    # There is no kernel for depthwise convolutions with fewer than 8 bits.
    stored = "int4" if step.weight_bits <= 4 and not single_channels(layer) else "int8"
    return PlannedLayer(
        layer=layer.path,
        kind=layer.kind,
        action="change",
        dtype=stored if matrix else None,
        estimated=["dtype"] if matrix and not exact else [],
    )
