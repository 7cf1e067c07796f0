"""Post-training quantisation of an ``.onnx`` that was uploaded, by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from featherweight.spec import LayerSelection, Quantize
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.programs.networks import OnnxNetwork
from tasks.compression.context import Context
from tasks.compression.outline.facts import Layer
from tasks.compression.quantizing.onnx import quantized_program
from tasks.compression.quantizing.onnx_kernels import none_narrow, obstacle
from tasks.compression.samples import Tensors
from tasks.compression.selection import select_from

__all__ = ["check_program", "quantize_program"]

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
    program = model.proto()
    told = {item.key: item.value for item in program.metadata_props}
    made, types = quantized_program(
        program,
        step,
        _samples(step, context),
        layers=model.owners,
        kept=kept,
        inputs=dict(zip(network.signature.input_names, network.signature.input_dtypes, strict=True)),
    )
    # What the file says of itself is its owner's; what the quantiser adds is of no use to anybody.
    del made.metadata_props[:]
    for key, value in told.items():
        made.metadata_props.add(key=key, value=value)
    content: bytes = made.SerializeToString(deterministic=True)
    _account(content, types, chosen, step, context)
    return replace(network, files={**network.files, "onnx": content}, types=types)


def _selected(model: OnnxNetwork, selection: LayerSelection, pointer: str) -> dict[str, Layer]:
    layers = select_from(model.outline.layers, selection, pointer, weighted=lambda layer: bool(layer.weights))
    return {layer.path: layer for layer in layers}


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
