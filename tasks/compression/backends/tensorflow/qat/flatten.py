"""A network as one functional model of copied layers: nested models inlined, separable convolutions split.

What simulates quantisation wraps single layers, and refuses models within models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from typing import Any

from tasks.compression.backends.tensorflow._framework import QuantizeLayer, keras, quantizers, tf
from tasks.compression.backends.tensorflow.structured.graph import is_network
from tasks.compression.errors import CompressionError

__all__ = ["Flat", "flattened"]


@dataclass(frozen=True)
class Flat:
    """`model` computes what the network does. `paths` are those of the network's layers by the names that
    their copies have in `model`; `pairs` are the network's variables, each with its copy."""

    model: Any
    paths: dict[str, str]
    pairs: tuple[tuple[Any, Any], ...]


def flattened(model: Any, quantized: Set[str] = frozenset()) -> Flat:
    """A flat copy of `model`, prepared for the layers at the paths `quantized` to be.

    Of these, a SeparableConv2D is two layers; and what one is given by a layer that is not of these goes
    through a QuantizeLayer first.

    CompressionError unsupported_model for a model without a graph of layers, or whose layers cannot be
    made again from their configuration.
    """
    if not is_network(model):
        raise CompressionError(
            "unsupported_model",
            f"{model.name!r} is a {type(model).__name__} without a graph of layers",
            hint="use a functional model, or a sequential model whose input shape is known",
        )
    copier = _Copier(quantized)
    inputs = [
        keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=copier.name(tensor.node.layer, ""))
        for tensor in model.inputs
    ]
    try:
        outputs = copier.walk(model, inputs, "")
    # Keras raises about anything for a layer whose configuration does not say all.
    except (TypeError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise CompressionError(
            "unsupported_model",
            f"a layer of the network cannot be copied: {str(error).splitlines()[0][:300]}",
            hint="train it with finetune and use quantize after it",
        ) from error
    flat = keras.Model(inputs, outputs, name=model.name)
    for old, new in copier.pairs:
        new.assign(old)
    return Flat(flat, copier.paths, tuple(copier.pairs))


@dataclass
class _Copier:
    quantized: Set[str]
    paths: dict[str, str] = field(default_factory=dict)
    pairs: list[tuple[Any, Any]] = field(default_factory=list)
    _made: dict[int, list[Any]] = field(default_factory=dict)
    _rounded: dict[int, Any] = field(default_factory=dict)

    def walk(self, model: Any, inputs: list[Any], prefix: str) -> list[Any]:
        """Call copies of all layers of `model` on `inputs`; what comes out of it."""
        known = {id(old): new for old, new in zip(model.inputs, inputs, strict=True)}
        for node in _nodes(model):
            if not all(id(tensor) in known for tensor in node.keras_inputs):
                continue  # of another model that shares the layer
            arguments, keywords = tf.nest.map_structure(
                lambda leaf: known.get(id(leaf), leaf), (list(node.call_args), dict(node.call_kwargs))
            )
            if is_network(node.layer):
                given = [known[id(tensor)] for tensor in node.keras_inputs]
                results = self.walk(node.layer, given, f"{prefix}{node.layer.name}/")
            else:
                called = self._called(node.layer, prefix, arguments, keywords)
                results = tf.nest.flatten(called)
            known.update(zip(map(id, tf.nest.flatten(node.outputs)), results, strict=True))
        return [known[id(tensor)] for tensor in model.outputs]

    def name(self, layer: Any, prefix: str) -> str:
        """One for the copy of `layer` that no other has."""
        path = f"{prefix}{layer.name}"
        stem = re.sub(r"[^A-Za-z0-9_.\\>-]", "_", path)
        name, number = stem, 1
        while name in self.paths:
            name, number = f"{stem}_{number}", number + 1
        self.paths[name] = path
        return name

    def _called(self, layer: Any, prefix: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        first, *rest = self._copies(layer, prefix)
        if f"{prefix}{layer.name}" in self.quantized:
            arguments = tf.nest.map_structure(self._entering, arguments)
        value = first(*arguments, **keywords)
        for copy in rest:
            value = copy(value)
        self._pair(layer, [first, *rest])
        return value

    def _entering(self, value: Any) -> Any:
        """What a rounded layer is given: rounded first, where a layer computed it that is not."""
        if not keras.backend.is_keras_tensor(value):
            return value
        maker = value.node.layer
        if isinstance(maker, keras.layers.InputLayer) or self.paths[maker.name] in self.quantized:
            return value
        if id(value) not in self._rounded:
            ranges = quantizers.MovingAverageQuantizer(8, per_axis=False, symmetric=False, narrow_range=False)
            self._rounded[id(value)] = QuantizeLayer(ranges, name=self.name(maker, "rounded_"))(value)
        return self._rounded[id(value)]

    def _copies(self, layer: Any, prefix: str) -> list[Any]:
        """The layers that stand for `layer`, the same ones each time it is called."""
        if id(layer) not in self._made:
            separable = isinstance(layer, keras.layers.SeparableConv2D)
            if separable and f"{prefix}{layer.name}" in self.quantized:
                self._made[id(layer)] = self._separated(layer, prefix)
            else:
                config = {**layer.get_config(), "name": self.name(layer, prefix)}
                self._made[id(layer)] = [type(layer).from_config(config)]
        return self._made[id(layer)]

    def _separated(self, layer: Any, prefix: str) -> list[Any]:
        """A depthwise convolution and a pointwise one, the two that ``.tflite`` has for a separable one."""
        config = layer.get_config()
        shared = {key: config[key] for key in ("data_format", "dtype", "trainable")}
        name = self.name(layer, prefix)  # The second has the name by which its outputs are known.
        depthwise = keras.layers.DepthwiseConv2D(
            **shared,
            kernel_size=config["kernel_size"],
            strides=config["strides"],
            padding=config["padding"],
            dilation_rate=config["dilation_rate"],
            depth_multiplier=config["depth_multiplier"],
            use_bias=False,
            depthwise_regularizer=config["depthwise_regularizer"],
            name=self.name(layer, prefix),
        )
        pointwise = keras.layers.Conv2D(
            config["filters"],
            1,
            **shared,
            use_bias=config["use_bias"],
            activation=config["activation"],
            kernel_regularizer=config["pointwise_regularizer"],
            bias_regularizer=config["bias_regularizer"],
            name=name,
        )
        return [depthwise, pointwise]

    def _pair(self, layer: Any, copies: list[Any]) -> None:
        """Weights come in the order they were made in; a copy is built by its first call."""
        known = {id(old) for old, _ in self.pairs}
        new = [weight for copy in copies for weight in copy.weights]
        for old, copied in zip(layer.weights, new, strict=True):
            if id(old) not in known:
                self.pairs.append((old, copied))


def _nodes(model: Any) -> Iterator[Any]:
    for depth in sorted(model._nodes_by_depth, reverse=True):
        yield from (node for node in model._nodes_by_depth[depth] if not node.is_input)
