"""The network with TFMOT's fake quantisation (Jacob et al. 2018), and the way back to the float network."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

from featherweight.spec import QuantizeAware
from tasks.compression.backends.tensorflow._framework import (
    QuantizeLayer,
    QuantizeWrapper,
    keras,
    quantization,
)
from tasks.compression.backends.tensorflow.layers import copied
from tasks.compression.backends.tensorflow.qat.flatten import Flat, flattened
from tasks.compression.backends.tensorflow.qat.scheme import Norm, Scheme, rounded_outputs
from tasks.compression.errors import CompressionError

__all__ = ["PREFIX", "Simulation", "simulated", "wrappers"]

PREFIX = "quant_"


@dataclass(frozen=True)
class Simulation:
    """`model` rounds weights and activations as its ``.tflite`` will, and trains variables of its own.

    `source` is the float network it was made of, `stands_for` the variable of `model` by the id of that of
    `source`; `paths` are those of the network's layers by the names that layers have in `model`.
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


def simulated(model: Any, quantized: Set[str], norms: Set[str], step: QuantizeAware) -> Simulation:
    """Of the layers at the paths `quantized`, all of which can be; of these, `norms` are the normalisations
    that no convolution takes in.

    CompressionError unsupported_model; layer_not_supported where TFMOT refuses the network all the same.
    """
    flat = flattened(model, quantized)
    names = {name for name, path in flat.paths.items() if path in quantized}
    alone = {name for name in names if flat.paths[name] in norms}
    try:
        wrapped = _applied(flat.model, names, alone, step)
    # TFMOT raises ValueError, RuntimeError, KeyError and more.
    except Exception as error:
        text = str(error).strip() or type(error).__name__
        raise CompressionError(
            "layer_not_supported",
            f"TFMOT cannot prepare the network for quantisation-aware training: {text.splitlines()[0][:300]}",
            hint="leave layers out, or use quantize after training",
        ) from error
    for layer in wrappers(wrapped):
        _train_what_is_trainable(layer)
    wrapped.output_names = list(model.output_names)
    return Simulation(wrapped, model, _variables(flat, wrapped), flat.paths)


def wrappers(model: Any) -> Iterator[Any]:
    """The layers of a simulation's model that round something."""
    for layer in model.layers:
        if isinstance(layer, QuantizeWrapper | QuantizeLayer):
            yield layer


def _train_what_is_trainable(layer: Any) -> None:
    """TFMOT's wrapper trains the weights of its layer even where that is frozen."""
    if not isinstance(layer, QuantizeWrapper):
        return
    own = [weight for weight, _, _ in layer._weight_vars]
    # In place: Keras takes every variable of a list it is given for one to train.
    layer._trainable_weights.clear()
    if layer.layer.trainable:
        layer._trainable_weights.extend(own)
    else:
        layer._non_trainable_weights.extend(own)


def _applied(model: Any, names: Set[str], alone: Set[str], step: QuantizeAware) -> Any:
    def annotated(layer: Any) -> Any:
        if layer.name not in names:
            return layer
        return quantization.quantize_annotate_layer(layer, rounded_outputs() if layer.name in alone else None)

    def with_norms(layer: Any) -> Any:
        if not isinstance(layer, QuantizeWrapper) or layer.layer.name not in alone:
            return layer
        return Norm(layer.layer, layer.quantize_config, name_prefix=PREFIX)

    with warnings.catch_warnings(), quantization.quantize_scope():
        warnings.simplefilter("ignore")
        marked = keras.models.clone_model(model, clone_function=annotated)
        applied = quantization.quantize_apply(marked, Scheme(step.weight_bits), PREFIX)
        return keras.models.clone_model(applied, clone_function=with_norms) if alone else applied


def _variables(flat: Flat, wrapped: Any) -> dict[int, Any]:
    """By the id of the network's variables. Those that a wrapper takes out of its layer are found by name;
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
        new = {
            _last(weight): weight for weight in (*inner.weights, *(item[0] for item in layer._weight_vars))
        }
        made |= {id(weight): new[_last(weight)] for weight in old.weights}
    stands_for = {}
    for network, copy in flat.pairs:
        stands_for[id(network)] = made[id(copy)]
        made[id(copy)].assign(network)
    return stands_for


def _last(weight: Any) -> str:
    """The name of a variable in its layer."""
    return str(weight.name).rsplit("/", 1)[-1].removesuffix(":0")
