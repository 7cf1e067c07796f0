"""The counterpart of a layer in the other Keras, made from its configuration."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

__all__ = ["NoCounterpart", "make_layer", "split_activation"]

# What a configuration holds beside what makes the layer compute as it does: how its weights came to be and
# are trained, and what only one of the two Keras knows. Weights are copied, so their beginnings do not count.
_BESIDE = ("_initializer", "_regularizer", "_constraint")
_RENAMED = {
    # (class, Keras 3): Keras 2
    ("LeakyReLU", "negative_slope"): "alpha",
}
_WRAPPED = ("layer", "backward_layer", "cell")
# Of the same name in both, and not the same function: Keras 3's is relu6(x + 3) / 6, Keras 2's 0.2 x + 0.5.
_DIFFERENT = {"hard_sigmoid"}


class NoCounterpart(Exception):
    """The layer or operation `name` of the kind `kind` cannot be had in the other Keras."""

    def __init__(self, name: str, kind: str, why: str) -> None:
        super().__init__(f"{kind} {name}: {why}")
        self.name = name
        self.kind = kind
        self.why = why


def make_layer(layer: Any, layers: Any, activations: Any) -> Any:
    """A new layer of the module `layers` that computes what `layer` does, its weights not yet made.

    Raises NoCounterpart where the other Keras has no class of that name, or does not take its configuration.
    """
    kind = type(layer).__name__
    maker = _class(layer, layers)
    if maker is None:
        raise NoCounterpart(layer.name, kind, "the other Keras has no such layer")
    config = _translated(layer, maker, layers, activations)
    try:
        return maker(**config)
    except Exception as error:  # about anything for values it does not know
        raise NoCounterpart(layer.name, kind, str(error).splitlines()[0][:200]) from error


def split_activation(layer: Any, activations: Any) -> str | None:
    """The name of an activation of `layer` that the other Keras does not have, and that can stand after the
    layer instead; None where there is none or it can be had."""
    function = getattr(layer, "activation", None)
    name = getattr(function, "__name__", None)
    if name is None or hasattr(layer, "cell") or hasattr(layer, "recurrent_activation"):
        return None
    return None if _has(activations, name) else name


def _class(layer: Any, layers: Any) -> type | None:
    name = type(layer).__name__
    if name == "LayerScale":  # ConvNeXt's own, which is not among the public layers of either
        return _layer_scale(layers)
    found = getattr(layers, name, None)
    return found if isinstance(found, type) else None


def _layer_scale(layers: Any) -> type:
    if layers.__name__.startswith("tf_keras"):
        from tf_keras.src.applications.convnext import LayerScale
    else:
        from keras.src.applications.convnext import LayerScale
    scale: type = LayerScale
    return scale


def _translated(layer: Any, maker: type, layers: Any, activations: Any) -> dict[str, Any]:
    config = dict(layer.get_config())
    taken = _parameters(maker)
    made: dict[str, Any] = {"name": layer.name, "trainable": layer.trainable, "dtype": "float32"}
    for key, value in config.items():
        name = _renamed(maker, key, taken)
        if name is None or name in made or key.endswith(_BESIDE):
            continue
        made[name] = _value(layer, key, value, layers, activations)
    if type(layer).__name__ == "BatchNormalization":
        made.pop("renorm", None)
    return made


def _parameters(maker: type) -> set[str]:
    """What the class takes, those that its bases take of it included."""
    names: set[str] = set()
    for base in maker.__mro__:
        if base.__name__ == "Layer":
            break
        if "__init__" in vars(base):
            names |= set(inspect.signature(vars(base)["__init__"]).parameters)
    return names - {"self", "args", "kwargs"}


def _renamed(maker: type, key: str, taken: set[str]) -> str | None:
    if key in taken:
        return key
    for (kind, third), second in _RENAMED.items():
        if maker.__name__ == kind and key in (third, second):
            return second if second in taken else third
    return None


def _value(layer: Any, key: str, value: Any, layers: Any, activations: Any) -> Any:
    if key in _WRAPPED and isinstance(value, Mapping):
        return _inner(layer, key, layers, activations)
    if key == "cells":
        return [make_layer(cell, layers, activations) for cell in layer.cells]
    if key.endswith("activation"):
        return _activation(layer, key, activations)
    if key == "axis" and isinstance(value, list | tuple):
        axes = [int(axis) for axis in value]
        return axes[0] if len(axes) == 1 else axes
    return value


def _inner(layer: Any, key: str, layers: Any, activations: Any) -> Any:
    inner = getattr(layer, "forward_layer", None) if key == "layer" else None
    inner = getattr(layer, key) if inner is None else inner
    made = make_layer(inner, layers, activations)
    if key == "layer" and type(layer).__name__ == "Bidirectional":
        made._name = str(layer.get_config()["layer"]["config"]["name"])
    return made


def _activation(layer: Any, key: str, activations: Any) -> Any:
    function = getattr(layer, key, None)
    if function is None:
        return None
    name = getattr(function, "__name__", None)
    if name is None:  # a layer used as an activation
        raise NoCounterpart(layer.name, type(layer).__name__, f"its {key} is a layer of its own")
    if _has(activations, name):
        return _called(name, activations)
    if key == "activation" and split_activation(layer, activations) is not None:
        return None  # it stands after the layer
    raise NoCounterpart(layer.name, type(layer).__name__, f"the other Keras has no activation {name}")


def _has(activations: Any, name: str) -> bool:
    return name not in _DIFFERENT and callable(getattr(activations, _called(name, activations), None))


def _called(name: str, activations: Any) -> str:
    """Keras 3 says silu for what Keras 2 calls swish."""
    if name == "silu" and not hasattr(activations, "silu"):
        return "swish"
    return name
