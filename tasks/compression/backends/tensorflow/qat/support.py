"""Which layers can learn to be rounded, and why not the others."""

from __future__ import annotations

from typing import Any

from tasks.compression.backends.tensorflow._framework import NBitScheme, keras

__all__ = ["obstacle"]

# What TFMOT knows the ranges of, before or after them.
_ACTIVATIONS = frozenset(["gelu", "linear", "relu", "sigmoid", "softmax", "swish", "tanh"])
_ACTIVATION_LAYERS = _ACTIVATIONS - {"gelu"} | {"relu6"}
_BEFORE_NORM = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)


def obstacle(layer: Any) -> str | None:
    """Why `layer`, of a functional model, cannot be quantised while training; None where it can.

    A convolution or dense layer is normalised right after it or not at all: that is how LiteRT has the
    two as one operation.
    """
    if isinstance(layer, keras.layers.InputLayer):
        return None
    if len(layer._inbound_nodes) > 1:
        return "the network calls it at several places"
    if isinstance(layer, keras.layers.SeparableConv2D):
        return _activation(layer)
    if isinstance(layer, keras.layers.BatchNormalization):
        before = _before(layer)
        if isinstance(before, _BEFORE_NORM) and _linear(before) and len(before._outbound_nodes) == 1:
            return obstacle(before)
        return "it does not follow a linear convolution or dense layer of its own"
    if not NBitScheme().get_quantize_registry().supports(layer):
        return f"TFMOT has no quantisation-aware training for {type(layer).__name__} layers"
    return _activation(layer)


def _activation(layer: Any) -> str | None:
    activation = getattr(layer, "activation", None)
    name = getattr(activation, "__name__", None)
    known = _ACTIVATION_LAYERS if isinstance(layer, keras.layers.Activation) else _ACTIVATIONS
    if activation is None or name in known:
        return None
    return f"TFMOT does not know the activation {name}"


def _linear(layer: Any) -> bool:
    return getattr(layer.activation, "__name__", None) == "linear"


def _before(layer: Any) -> Any:
    """The layer whose output `layer` is called on; None for several."""
    found = layer._inbound_nodes[0].inbound_layers
    return None if isinstance(found, list | tuple) else found
