"""What a quantisation starts from: the float file, its operations and the layers it is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from featherweight.spec import LayerSelection, Quantize
from tasks.compression.backends.tensorflow.convert import to_tflite
from tasks.compression.backends.tensorflow.layers import select
from tasks.compression.backends.tensorflow.lowbits import obstacle
from tasks.compression.backends.tensorflow.programs.layers import selected, traced
from tasks.compression.backends.tensorflow.programs.networks import Layerless
from tasks.compression.backends.tensorflow.tracing import Traced, trace
from tasks.compression.context import Context

__all__ = ["Make", "Source", "obstacles", "quantized_layers", "read_source"]

Make = Callable[[frozenset[str]], bytes]
"""Makes the quantised file with the layers named left in float."""


@dataclass(frozen=True)
class Source:
    """`program` is the model as a float file, `traced` its operations; `unselected` the paths of the layers
    that `layers` leaves out; `pointer` is the step's."""

    model: Any
    program: bytes
    traced: tuple[Traced, ...]
    unselected: frozenset[str]
    pointer: str


def read_source(model: Any, step: Quantize, context: Context) -> Source:
    if isinstance(model, Layerless):
        return _of_operations(model, step, context)
    everything = {place.path for place in select(model, LayerSelection(), context.pointer)}
    selected = {place.path for place in select(model, step.layers, f"{context.pointer}/layers")}
    program = to_tflite(model)
    traced = tuple(trace(model, program))
    lost = sum(item.layer is None and item.operation.weights is not None for item in traced)
    if lost and selected != everything:
        context.warn("untraced_weights", count=lost)
    return Source(model, program, traced, frozenset(everything - selected), context.pointer)


def _of_operations(model: Layerless, step: Quantize, context: Context) -> Source:
    everything = selected(model, LayerSelection(), context.pointer)
    chosen = selected(model, step.layers, f"{context.pointer}/layers")
    return Source(
        model, model.program, traced(model.program), frozenset(everything - chosen), context.pointer
    )


def obstacles(source: Source, step: Quantize, kept: frozenset[str]) -> dict[str, str]:
    """Why selected layers with weights cannot be quantised as asked."""
    found: dict[str, str] = {}
    for item in source.traced:
        if item.layer is None or item.layer in kept or item.operation.weights is None:
            continue
        why = None if step.calibrates_ranges else obstacle(item.operation, step)
        if why is not None:
            found[item.layer] = why
    return found


def quantized_layers(source: Source, step: Quantize, kept: frozenset[str]) -> frozenset[str]:
    """The layers that have weights to quantise when those in `kept` are left in float."""
    return frozenset(
        item.layer
        for item in source.traced
        if item.layer is not None
        and item.operation.weights is not None
        and item.layer not in kept
        and (step.calibrates_ranges or obstacle(item.operation, step) is None)
    )
