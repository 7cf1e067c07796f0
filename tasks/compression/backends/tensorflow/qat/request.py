"""What a quantize_aware step asks of a network: the layers to round, and what is said of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from featherweight.spec import QuantizeAware
from tasks.compression.backends.tensorflow._framework import keras
from tasks.compression.backends.tensorflow.layers import placed_layers, select
from tasks.compression.backends.tensorflow.qat.support import support
from tasks.compression.errors import CompressionError

__all__ = ["Chosen", "chosen"]


@dataclass(frozen=True)
class Chosen:
    """Paths of layers: `quantized` are those to round, of these `norms` the normalisations that stand alone;
    `left_float` says why others that were selected cannot be rounded; `unselected` are the rest."""

    quantized: frozenset[str]
    norms: frozenset[str]
    left_float: Mapping[str, str]
    unselected: frozenset[str]


def chosen(model: Any, step: QuantizeAware, pointer: str) -> Chosen:
    """CompressionError layer_not_found; unsupported_model for a model without a graph of layers;
    layer_not_supported for a selected layer that cannot be rounded, where the step says ``error``, and when
    none with weights can."""
    selected = [
        place
        for place in select(model, step.layers, f"{pointer}/layers")
        if not isinstance(place.layer, keras.layers.InputLayer)
    ]
    known = support(model)
    quantized = frozenset(place.path for place in selected if known.obstacles[place.path] is None)
    left = {place.path: why for place in selected if (why := known.obstacles[place.path]) is not None}
    if left and step.on_unsupported == "error":
        path, why = next(iter(left.items()))
        raise CompressionError(
            "layer_not_supported",
            f"the layer {path} was selected for quantisation-aware training: {why}",
            hint="exclude it, or set on_unsupported to skip",
            layer=path,
            pointer=f"{pointer}/layers",
        )
    if not any(place.path in quantized and _has_matrix(place.layer) for place in selected):
        why = f": {next(iter(left.values()))}" if left else ""
        raise CompressionError(
            "layer_not_supported",
            f"no selected layer with weights can learn to be rounded{why}",
            hint="select other layers, or use quantize after training",
            pointer=f"{pointer}/layers",
        )
    everything = frozenset(place.path for place in placed_layers(model))
    return Chosen(quantized, known.alone(quantized), left, everything - quantized - left.keys())


def _has_matrix(layer: Any) -> bool:
    return any(len(weight.shape) > 1 for weight in layer.weights)
