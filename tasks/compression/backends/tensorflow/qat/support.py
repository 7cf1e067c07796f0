"""Which layers can learn to be rounded, and why not the others: by the names of their classes, so that plans,
which know no more of a layer, read the same. It imports no framework.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from tasks.compression.backends.tensorflow.structured.graph import Call, Graph, is_keras, kind
from tasks.compression.rounding_choice import Support

__all__ = ["LEARN", "support"]

LEARN = frozenset(
    [
        *("Activation", "LeakyReLU", "ReLU", "Softmax"),
        *("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract"),
        *("ActivityRegularization", "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"),
        *("AveragePooling1D", "AveragePooling2D", "MaxPooling1D", "MaxPooling2D"),
        *("GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D"),
        *("GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D"),
        *("Cropping1D", "Cropping2D", "Cropping3D", "UpSampling1D", "UpSampling2D"),
        *("ZeroPadding1D", "ZeroPadding2D"),
        *("Flatten", "Permute", "RepeatVector", "Reshape"),
        *("Conv1D", "Conv2D", "Conv2DTranspose", "Dense", "DepthwiseConv2D"),
        *("BatchNormalization", "SeparableConv2D"),
    ]
)
"""TFMOT's registry as qat.scheme has it, and the two that are taken apart or rounded by themselves."""

# What TFMOT knows the ranges of, before or after them.
_ACTIVATIONS = frozenset(["gelu", "linear", "relu", "sigmoid", "softmax", "swish", "tanh"])
_ACTIVATION_LAYERS = frozenset(["linear", "relu", "relu6", "sigmoid", "softmax", "swish", "tanh"])
_TAKES_NORM = frozenset(["Conv2D", "DepthwiseConv2D", "SeparableConv2D"])


def support(graph: Graph) -> Support:
    """Of its layers but the inputs."""
    calls = Counter(call.name for call in graph.calls)
    obstacles: dict[str, str | None] = {}
    for call in graph.calls:
        if kind(call.layer) == "InputLayer":
            continue
        obstacles[call.name] = _obstacle(call.layer)
        if calls[call.name] > 1:
            obstacles[call.name] = "the network calls it at several places"
    norms = frozenset(call.name for call in graph.calls if kind(call.layer) == "BatchNormalization")
    return Support(obstacles, norms, _folded(graph, norms))


def _obstacle(layer: Any) -> str | None:
    if not is_keras(layer) or kind(layer) not in LEARN:
        return f"there is no quantisation-aware training for {kind(layer)} layers"
    activation = getattr(layer, "activation", None)
    name = getattr(activation, "__name__", None)
    known = _ACTIVATION_LAYERS if kind(layer) == "Activation" else _ACTIVATIONS
    if activation is not None and name not in known:
        return f"there is no quantisation-aware training for the activation {name}"
    return None


def _folded(graph: Graph, norms: frozenset[str]) -> dict[str, str]:
    """The convolution before each normalisation, where nothing else takes its outputs and they are linear."""
    makers = {tensor.number: call for call in graph.calls for tensor in call.outputs if call.inputs}
    taken = Counter(tensor.number for call in graph.calls for tensor in call.inputs)
    taken.update(tensor.number for tensor in graph.outputs)
    found: dict[str, str] = {}
    for call in graph.calls:
        maker: Call | None = makers.get(call.inputs[0].number) if call.inputs else None
        if call.name not in norms or maker is None or kind(maker.layer) not in _TAKES_NORM:
            continue
        linear = getattr(maker.layer.activation, "__name__", None) == "linear"
        if linear and taken[call.inputs[0].number] == 1:
            found[call.name] = maker.name
    return found
