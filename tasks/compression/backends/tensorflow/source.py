"""The float file of a Keras model, its operations and the layers that a quantisation is for."""

from __future__ import annotations

from functools import partial
from typing import Any

from featherweight.spec import LayerSelection, Quantize
from tasks.compression.backends.tensorflow.convert import to_tflite
from tasks.compression.backends.tensorflow.layers import select
from tasks.compression.backends.tensorflow.predict import predict
from tasks.compression.backends.tensorflow.programs.layers import selected, traced
from tasks.compression.backends.tensorflow.programs.networks import Layerless
from tasks.compression.backends.tensorflow.tracing import trace
from tasks.compression.context import Context
from tasks.compression.quantizing.source import Source

__all__ = ["read_source"]


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
    return Source(
        model, partial(predict, model), program, traced, frozenset(everything - selected), context.pointer
    )


def _of_operations(model: Layerless, step: Quantize, context: Context) -> Source:
    everything = selected(model, LayerSelection(), context.pointer)
    chosen = selected(model, step.layers, f"{context.pointer}/layers")
    return Source(
        model,
        partial(predict, model),
        model.program,
        traced(model.program),
        frozenset(everything - chosen),
        context.pointer,
    )
