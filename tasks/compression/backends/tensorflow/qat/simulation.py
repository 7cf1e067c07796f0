"""The network with TFMOT's fake quantisation (Jacob et al. 2018), and the way back to the float network."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

from featherweight.spec import QuantizeAware
from tasks.compression.backends.tensorflow._framework import (
    NBitScheme,
    QuantizeLayer,
    QuantizeWrapper,
    keras,
    quantization,
)
from tasks.compression.backends.tensorflow.layers import copied
from tasks.compression.backends.tensorflow.qat.flatten import Flat, flattened
from tasks.compression.errors import CompressionError

__all__ = ["PREFIX", "Simulation", "simulated", "wrappers"]

PREFIX = "quant_"


@dataclass(frozen=True)
class Simulation:
    """`model` rounds weights and activations as its ``.tflite`` will, and trains variables of its own.

    `source` is the float network it was made of, `stands_for` the variable of `model` for that of `source` with
    an id; `paths` are those of the network's layers by the names that layers have in `model`.
    """

    model: Any
    source: Any
    stands_for: Mapping[int, Any]
    paths: Mapping[str, str]

    def variable(self, weight: Any) -> Any:
        """The one of `model` that is trained in the place of the network's `weight`."""
        return self.stands_for[id(weight)]

    def floats(self) -> Any:
        """A copy of the float network with the weights as trained."""
        trained = copied(self.source)
        for old, new in zip(self.source.weights, trained.weights, strict=True):
            new.assign(self.variable(old))
        return trained


def simulated(model: Any, quantized: Set[str], step: QuantizeAware) -> Simulation:
    """Of the layers at the paths `quantized`, all of which can be.

    CompressionError layer_not_supported where TFMOT refuses the network all the same.
    """
    flat = flattened(model, {path for path in quantized if _separable(model, path)})
    names = {name for name, path in flat.paths.items() if path in quantized}
    try:
        wrapped = _applied(flat.model, names, step)
    # TFMOT raises ValueError, RuntimeError, KeyError and more.
    except Exception as error:
        text = str(error).strip() or type(error).__name__
        raise CompressionError(
            "layer_not_supported",
            f"TFMOT cannot prepare the network for quantisation-aware training: {text.splitlines()[0][:300]}",
            hint="leave layers out, or use quantize after training",
        ) from error
    wrapped.output_names = list(model.output_names)
    return Simulation(wrapped, model, _variables(flat, wrapped), flat.paths)


def wrappers(model: Any) -> Iterator[Any]:
    """The layers of a simulation's model that round something."""
    for layer in model.layers:
        if isinstance(layer, QuantizeWrapper | QuantizeLayer):
            yield layer


def _separable(model: Any, path: str) -> bool:
    from tasks.compression.backends.tensorflow.layers import placed_layers

    found = {place.path: place.layer for place in placed_layers(model)}
    return isinstance(found.get(path), keras.layers.SeparableConv2D)


def _applied(model: Any, names: Set[str], step: QuantizeAware) -> Any:
    def annotate(layer: Any) -> Any:
        return quantization.quantize_annotate_layer(layer) if layer.name in names else layer

    scheme = NBitScheme(num_bits_weight=step.weight_bits, num_bits_activation=step.activation_bits)
    with warnings.catch_warnings(), quantization.quantize_scope():
        warnings.simplefilter("ignore")
        annotated = keras.models.clone_model(model, clone_function=annotate)
        return quantization.quantize_apply(annotated, scheme, PREFIX)


def _variables(flat: Flat, wrapped: Any) -> dict[int, Any]:
    """By the id of the network's variables. Those that a wrapper takes out of its layer are found by name; the
    values are given anew, since TFMOT copies them by names that layers of layers have twice."""
    made: dict[int, Any] = {}
    layers = {layer.name: layer for layer in flat.model.layers}
    for layer in wrapped.layers:
        inner = getattr(layer, "layer", layer) if isinstance(layer, QuantizeWrapper) else layer
        old = layers.get(inner.name)
        if old is None or not old.weights:
            continue
        if inner is layer:
            made |= {id(weight): new for weight, new in zip(old.weights, layer.weights, strict=True)}
            continue
        new = {_last(weight): weight for weight in (*inner.weights, *(item[0] for item in layer._weight_vars))}
        made |= {id(weight): new[_last(weight)] for weight in old.weights}
    stands_for = {}
    for network, copy in flat.pairs:
        stands_for[id(network)] = made[id(copy)]
        made[id(copy)].assign(network)
    return stands_for


def _last(weight: Any) -> str:
    """The name of a variable in its layer."""
    return str(weight.name).rsplit("/", 1)[-1].removesuffix(":0")
