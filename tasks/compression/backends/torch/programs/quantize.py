"""Post-training quantisation of an ``.onnx`` that was uploaded, by ONNX Runtime."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from featherweight.spec import LayerSelection, Quantize
from tasks.compression.backends.torch.layers import placed_layers
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.onnx import quantized_onnx
from tasks.compression.backends.torch.programs.networks import OnnxNetwork
from tasks.compression.context import Context
from tasks.compression.outline.facts import Layer
from tasks.compression.quantizing.onnx_kernels import none_narrow, obstacle
from tasks.compression.samples import Tensors
from tasks.compression.selection import select_from

__all__ = ["check_program", "of_layers", "quantize_program"]

_FLOAT = "float32"


def check_program(model: OnnxNetwork, step: Quantize, pointer: str) -> None:
    """CompressionError layer_not_found."""
    _selected(model, step.layers, f"{pointer}/layers")


def quantize_program(network: Network, step: Quantize, context: Context) -> Network:
    """Make the quantised ``.onnx``. CompressionError conversion_failed; layer_not_supported where none of the
    layers selected can be had as asked."""
    model: OnnxNetwork = network.model
    chosen = _selected(model, step.layers, f"{context.pointer}/layers")
    kept = frozenset(_selected(model, LayerSelection(), context.pointer)) - chosen.keys()
    content, types = quantized_onnx(replace(network, program=model), step, _samples(step, context), kept)
    _account(content, types, chosen, step, context)
    return replace(network, files={**network.files, "onnx": content}, types=types)


def _selected(model: OnnxNetwork, selection: LayerSelection, pointer: str) -> dict[str, Layer]:
    layers = select_from(model.outline.layers, selection, pointer, weighted=lambda layer: bool(layer.weights))
    return {layer.path: layer for layer in layers}


def of_layers(network: Network, built: Network, step: Quantize, pointer: str) -> Quantize:
    """The step for the network rebuilt of a program, whose layers are those of the program's nodes that have
    weights: patterns may name others too."""
    chosen = _selected(network.model, step.layers, f"{pointer}/layers")
    paths = [place.path for place in placed_layers(built.model)]
    names = [re.sub(r"([\[*?])", r"[\1]", path) for path in paths if path in chosen]
    if len(names) == len(paths) or not names:
        return step.model_copy(update={"layers": LayerSelection()}) if names else step
    return step.model_copy(update={"layers": LayerSelection(include=tuple(names))})


def _samples(step: Quantize, context: Context) -> Tensors | None:
    if not step.calibrates_ranges:
        return None
    data = context.training_data
    context.record.details["calibration_samples"] = len(data.calibration)
    return data.x[data.calibration]


def _account(
    content: bytes, types: Mapping[str, str], chosen: Mapping[str, Layer], step: Quantize, context: Context
) -> None:
    """The type of every layer's weights goes into the report; a layer that was selected and is float all the
    same is said."""
    reasons = {
        path: obstacle(chosen[path].kind, step) or "ONNX Runtime has no kernel for it"
        for path, dtype in types.items()
        if path in chosen and dtype == _FLOAT
    }
    if all(dtype == _FLOAT for dtype in types.values()):
        raise none_narrow(next(iter(reasons.values()), None), context.pointer)
    for path, why in reasons.items():
        context.warn("left_float", layer=path, why=why)
    context.record.details.update(scheme=step.scheme, bytes=len(content), layers=dict(types))
