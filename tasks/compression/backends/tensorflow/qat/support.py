"""Which layers can learn to be rounded, and why not the others: by the names of their classes, so that plans,
which know no more of a layer, read the same. It imports no framework.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from featherweight.spec import QuantizeAware
from tasks.compression.backends.tensorflow.structured.graph import Call, Graph, is_keras, kind
from tasks.compression.errors import CompressionError

__all__ = ["LEARN", "Chosen", "Support", "choose", "support"]

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


@dataclass(frozen=True)
class Support:
    """By the paths of layers: `obstacles` says why one cannot be rounded while training, None where it can;
    `norms` are the batch normalisations; `folds_into` names, for one of them, the convolution that LiteRT has
    as one operation with it."""

    obstacles: Mapping[str, str | None]
    norms: frozenset[str]
    folds_into: Mapping[str, str]

    def alone(self, paths: Iterable[str]) -> frozenset[str]:
        """The normalisations among `paths` without their convolution among them."""
        chosen = frozenset(paths)
        return frozenset(path for path in chosen & self.norms if self.folds_into.get(path) not in chosen)


@dataclass(frozen=True)
class Chosen:
    """Paths of layers: `quantized` are those to round, of these `norms` the normalisations that stand alone;
    `left_float` says why others that were selected cannot be rounded; `unselected` are the rest."""

    quantized: frozenset[str]
    norms: frozenset[str]
    left_float: Mapping[str, str]
    unselected: frozenset[str]


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


def choose(
    selected: Mapping[str, bool], everything: Iterable[str], known: Support, step: QuantizeAware, pointer: str
) -> Chosen:
    """What `step` rounds of the layers it selects, inputs apart; for each whether it has a matrix of weights.

    CompressionError layer_not_supported for a selected layer that cannot be rounded, where the step says
    ``error``, and when none with weights can.
    """
    quantized = frozenset(path for path in selected if known.obstacles[path] is None)
    left = {path: why for path in selected if (why := known.obstacles[path]) is not None}
    if left and step.on_unsupported == "error":
        path, why = next(iter(left.items()))
        raise CompressionError(
            "layer_not_supported",
            f"the layer {path} was selected for quantisation-aware training: {why}",
            hint="exclude it, or set on_unsupported to skip",
            layer=path,
            pointer=f"{pointer}/layers",
        )
    if not any(selected[path] for path in quantized):
        why = f": {next(iter(left.values()))}" if left else ""
        raise CompressionError(
            "layer_not_supported",
            f"no selected layer with weights can learn to be rounded{why}",
            hint="select other layers, or use quantize after training",
            pointer=f"{pointer}/layers",
        )
    rest = frozenset(everything) - quantized - left.keys()
    return Chosen(quantized, known.alone(quantized), left, rest)


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
