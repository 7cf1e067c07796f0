"""Post-training quantisation: by which converter, of which layers, calibrated on which samples."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from featherweight.spec import Quantize
from tasks.compression.backends.tensorflow.converted import (
    calibrated,
    convert_int16,
    convert_weights,
    integers,
)
from tasks.compression.backends.tensorflow.layers import placed_layers, select
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.programs.integers import calibrated_program, int16_program
from tasks.compression.backends.tensorflow.programs.layers import check_step
from tasks.compression.backends.tensorflow.programs.networks import FloatProgram, Layerless
from tasks.compression.backends.tensorflow.source import read_source
from tasks.compression.context import Context
from tasks.compression.errors import CompressionError
from tasks.compression.outputs import PROGRAMS
from tasks.compression.quantizing.account import account
from tasks.compression.quantizing.calibration import best, calibration_subsets
from tasks.compression.quantizing.float_layers import leave_float
from tasks.compression.quantizing.makers import by_weights
from tasks.compression.quantizing.source import Make, Source
from tasks.compression.quantizing.weight_kernels import (
    LOOPS,
    refused_loop,
)
from tasks.compression.samples import Tensors

__all__ = ["check", "quantize"]


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
    """Convert to a quantised ``.tflite``; the Keras model stays float. One that cannot be made is left out as
    of Context.leave_out.

    CompressionError conversion_failed; layer_not_supported when none of the layers selected can be had as
    asked.
    """
    if context.lost and PROGRAMS.isdisjoint(context.outputs):
        return network
    try:
        return replace(network, tflite=_converted(network, step, context))
    except CompressionError as error:
        if error.code != "conversion_failed":
            raise
        context.leave_out(PROGRAMS, error)
        return network


def _converted(network: Network, step: Quantize, context: Context) -> bytes:
    source = read_source(network.model, step, context)
    makers = _makers(source, step, context)
    make = makers[0] if len(makers) == 1 else best(makers, source, context)
    content, kept = make(source.unselected), source.unselected
    if step.sensitivity is not None:
        content, kept = leave_float(make, content, source, step, step.sensitivity, context)
    account(content, source, kept, step, context, _matrices(network.model))
    return content


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
    return by_weights(source, step, samples, kept)


def _matrices(model: Any) -> list[str]:
    """The layers with matrices."""
    return [
        place.path
        for place in placed_layers(model)
        if any(len(weight.shape) > 1 for weight in place.layer.weights)
    ]
