"""Which layers can learn to be rounded, and why not the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.compression.backends.tensorflow._framework import keras
from tasks.compression.backends.tensorflow.qat.scheme import Scheme
from tasks.compression.backends.tensorflow.structured.graph import Call, Graph, trace

__all__ = ["Support", "support"]

# What TFMOT knows the ranges of, before or after them.
_ACTIVATIONS = frozenset(["gelu", "linear", "relu", "sigmoid", "softmax", "swish", "tanh"])
_ACTIVATION_LAYERS = frozenset(["linear", "relu", "relu6", "sigmoid", "softmax", "swish", "tanh"])
_TAKES_NORM = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
_OWN = (keras.layers.BatchNormalization, keras.layers.SeparableConv2D)


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


def support(model: Any) -> Support:
    """Of the layers of `model` but its inputs. CompressionError unsupported_model for one without a graph."""
    graph = trace(model)
    calls = Counter(call.name for call in graph.calls)
    registry = Scheme().get_quantize_registry()
    obstacles: dict[str, str | None] = {}
    for call in graph.calls:
        if isinstance(call.layer, keras.layers.InputLayer):
            continue
        obstacles[call.name] = _obstacle(call.layer, registry)
        if calls[call.name] > 1:
            obstacles[call.name] = "the network calls it at several places"
    norms = frozenset(
        call.name for call in graph.calls if isinstance(call.layer, keras.layers.BatchNormalization)
    )
    return Support(obstacles, norms, _folded(graph, norms))


def _obstacle(layer: Any, registry: Any) -> str | None:
    kind = type(layer).__name__
    if not isinstance(layer, _OWN) and not registry.supports(layer):
        return f"there is no quantisation-aware training for {kind} layers"
    activation = getattr(layer, "activation", None)
    name = getattr(activation, "__name__", None)
    known = _ACTIVATION_LAYERS if isinstance(layer, keras.layers.Activation) else _ACTIVATIONS
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
        if call.name not in norms or maker is None or not isinstance(maker.layer, _TAKES_NORM):
            continue
        transposed = isinstance(maker.layer, keras.layers.Conv2DTranspose)
        linear = getattr(maker.layer.activation, "__name__", None) == "linear"
        if linear and not transposed and taken[call.inputs[0].number] == 1:
            found[call.name] = maker.name
    return found
