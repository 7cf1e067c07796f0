"""What a quantize_aware step asks of a network: the layers to round, and what is said of the others."""

from __future__ import annotations

from typing import Any

from featherweight.spec import QuantizeAware
from tasks.compression.backends.tensorflow._framework import keras
from tasks.compression.backends.tensorflow.layers import has_matrices, placed_layers, select
from tasks.compression.backends.tensorflow.qat.support import support
from tasks.compression.backends.tensorflow.structured.graph import trace
from tasks.compression.rounding_choice import Chosen, choose

__all__ = ["Chosen", "chosen"]


def chosen(model: Any, step: QuantizeAware, pointer: str) -> Chosen:
    """CompressionError layer_not_found; unsupported_model for a model without a graph of layers;
    layer_not_supported as rounding_choice.choose."""
    selected = {
        place.path: has_matrices(place.layer)
        for place in select(model, step.layers, f"{pointer}/layers")
        if not isinstance(place.layer, keras.layers.InputLayer)
    }
    everything = [place.path for place in placed_layers(model)]
    return choose(selected, everything, support(trace(model)), step, pointer)
