"""Post-training quantisation: by which converter, of which layers, calibrated on which samples."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from functools import partial

from featherweight.spec import Quantize
from tasks.compression.backends.tensorflow.calibration import best, calibration_subsets
from tasks.compression.backends.tensorflow.converted import (
    calibrated,
    convert_int16,
    convert_weights,
    integers,
)
from tasks.compression.backends.tensorflow.float_layers import leave_float
from tasks.compression.backends.tensorflow.layers import placed_layers, select
from tasks.compression.backends.tensorflow.lowbits import obstacle, quantize_weights
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.programs.integers import calibrated_program, int16_program
from tasks.compression.backends.tensorflow.programs.layers import check_step
from tasks.compression.backends.tensorflow.programs.networks import FloatProgram, Layerless
from tasks.compression.backends.tensorflow.source import Make, Source, obstacles, read_source
from tasks.compression.backends.tensorflow.tracing import stored_types
from tasks.compression.backends.tensorflow.weight_kernels import (
    LOOPS,
    none_as_asked,
    refused_loop,
)
from tasks.compression.context import Context
from tasks.compression.samples import Tensors
from tasks.compression.tflite import weight_types

__all__ = ["check", "quantize"]


_NARROW = frozenset(["float16", "int2", "int4", "int8"])


def check(network: Network, step: Quantize, pointer: str) -> None:
    """CompressionError layer_not_found; layer_not_supported where the ranges of recurrent layers that run in
    a loop would be calibrated."""
    if isinstance(network.model, Layerless):
        check_step(network.model, step, pointer)
        return
    select(network.model, step.layers, f"{pointer}/layers")
    if not step.calibrates_ranges:
        return
    for place in placed_layers(network.model):
        inner = getattr(place.layer, "forward_layer", place.layer)
        if type(inner).__name__ in LOOPS:
            raise refused_loop(type(inner).__name__, place.path, step, pointer)


def quantize(network: Network, step: Quantize, context: Context) -> Network:
    """Convert to a quantised ``.tflite``; the Keras model stays float.

    CompressionError conversion_failed; layer_not_supported when none of the layers selected can be had as
    asked.
    """
    source = read_source(network.model, step, context)
    makers = _makers(source, step, context)
    make = makers[0] if len(makers) == 1 else best(makers, source, context)
    content, kept = make(source.unselected), source.unselected
    if step.sensitivity is not None:
        content, kept = leave_float(make, content, source, step, step.sensitivity, context)
    _account(content, source, kept, step, context)
    context.record.details.update(scheme=step.scheme, bytes=len(content), tensors=weight_types(content))
    return replace(network, tflite=content)


def _makers(source: Source, step: Quantize, context: Context) -> list[Make]:
    """A maker for each candidate for calibration; one where nothing is calibrated."""
    if not step.calibrates:
        return [partial(_by_weights, source, step, None)]
    data = context.training_data
    subsets = [data.x[chosen] for chosen in calibration_subsets(data, step, context.seed)]
    context.record.details["calibration_samples"] = len(subsets[0])
    if len(subsets) > 1:
        context.record.details["calibration"] = {"samples": [len(samples) for samples in subsets]}
    if step.scheme == "int16x8":
        return [partial(_by_int16, source, samples) for samples in subsets]
    if step.scheme == "full_int8":
        return [partial(_by_integers, source, step, samples, {}) for samples in subsets]
    return [partial(_by_weights, source, step, subsets[0])]


def _by_int16(source: Source, samples: Tensors, _kept: frozenset[str]) -> bytes:
    if isinstance(source.model, FloatProgram):
        return int16_program(source.model, samples)
    return convert_int16(source.model, samples)


def _by_integers(
    source: Source, step: Quantize, samples: Tensors, calibration: dict[str, bytes], kept: frozenset[str]
) -> bytes:
    """`calibration` remembers the calibrated file, which does not depend on the layers kept."""
    if "file" not in calibration:
        per_tensor = step.granularity == "per_tensor"
        calibration["file"] = (
            calibrated_program(source.model, samples)
            if isinstance(source.model, FloatProgram)
            else calibrated(source.model, samples, per_tensor=per_tensor)
        )
    names = [name for item in source.traced if item.layer in kept for name in item.operation.outputs]
    return integers(calibration["file"], step, names)


def _by_weights(source: Source, step: Quantize, samples: Tensors | None, kept: frozenset[str]) -> bytes:
    whole = step.scheme in ("float16", "dynamic_int8") and not kept
    if whole and not isinstance(source.model, FloatProgram):
        return convert_weights(source.model, step.scheme)
    chosen = [
        item.operation
        for item in source.traced
        if item.layer not in kept and obstacle(item.operation, step) is None
    ]
    if not chosen:
        why = next(iter(obstacles(source, step, kept).values()), "none of them has weights")
        raise none_as_asked(why, source.pointer)
    return quantize_weights(source.program, step, chosen, samples)


def _account(content: bytes, source: Source, kept: frozenset[str], step: Quantize, context: Context) -> None:
    """The type every layer's weights have in the file goes into the report; a layer that was selected and
    is float all the same is said."""
    types = stored_types(content, source.traced)
    context.record.details["layers"] = types
    why = obstacles(source, step, kept)
    for layer, dtype in types.items():
        if layer in kept and dtype != "float32":
            context.warn("not_left_float", layer=layer, dtype=dtype)
        elif layer not in kept and "float32" in dtype:
            context.warn("left_float", layer=layer, why=why.get(layer, "the converter has no kernel for it"))
    if step.scheme in ("weight_only", "dynamic") or (kept and not step.calibrates_ranges):
        for layer in _untraced(source, types.keys() | kept):
            context.warn("left_float", layer=layer, why="its operations cannot be told apart in the file")
    # Layers that could not be traced count by what the file holds.
    if set(types.values()) == {"float32"} and not _NARROW & weight_types(content).keys():
        context.warn("nothing_changed", index=context.index, technique=step.technique)


def _untraced(source: Source, known: Set[str]) -> list[str]:
    """The layers with matrices not in `known`: what is quantised operation by operation misses them."""
    return [
        place.path
        for place in placed_layers(source.model)
        if place.path not in known and any(len(weight.shape) > 1 for weight in place.layer.weights)
    ]
