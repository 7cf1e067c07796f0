"""Rebuilds a model in the other Keras, in the order of its graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tasks.compression.backends.tensorflow._framework import keras as keras2
from tasks.compression.backends.tensorflow.bridge.counterparts import (
    NoCounterpart,
    make_layer,
    split_activation,
)
from tasks.compression.backends.tensorflow.bridge.graphs import (
    Side,
    flat,
    is_model,
    keras2_side,
    keras3_side,
    needed,
    swapped,
)
from tasks.compression.backends.tensorflow.bridge.operations import ACTIVATIONS, TO_KERAS2
from tasks.compression.backends.tensorflow.bridge.operations import to_keras3 as keras3_operations
from tasks.compression.backends.tensorflow.bridge.weights import copy_weights

__all__ = ["NoCounterpart", "Pair", "Rebuilt", "to_keras2", "to_keras3"]


@dataclass(frozen=True)
class Pair:
    """What the layer or operation `name` puts out in the two models; `output` where it is the models' own."""

    name: str
    kind: str
    source: Any
    made: Any
    output: bool


@dataclass(frozen=True)
class Rebuilt:
    """`model` is `source` in another Keras; `source_keras` and `keras` are the two modules; `pairs` in the
    order of the graph."""

    source: Any
    model: Any
    source_keras: Any
    keras: Any
    pairs: tuple[Pair, ...]


def to_keras2(model: Any) -> Rebuilt:
    """A Keras 3 model, functional or Sequential, as a tf_keras one of the same names and weights, in float32.

    NoCounterpart for a layer, an operation or an activation that Keras 2 does not have.
    """
    return _Rebuild(keras3_side(), keras2_side(), _operation_in_keras2).run(model)


def to_keras3(model: Any) -> Rebuilt:
    """A tf_keras model as a Keras 3 one. NoCounterpart likewise."""
    target = keras3_side()
    operation = partial(_operation_in_keras3, keras3_operations(target.keras.ops))
    return _Rebuild(keras2_side(), target, operation).run(model)


@dataclass
class _Rebuild:
    """`made` has the counterpart of every layer, by the layer's id: one that is used twice is shared."""

    source: Side
    target: Side
    operation: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
    made: dict[int, tuple[Any, Any]] = field(default_factory=dict)

    def run(self, model: Any) -> Rebuilt:
        made, pairs = self._model(model)
        for source, counterpart in self.made.values():
            if not is_model(source):
                copy_weights(source, counterpart)
        return Rebuilt(model, made, self.source.keras, self.target.keras, tuple(pairs))

    def _model(self, model: Any) -> tuple[Any, list[Pair]]:
        sequential = type(model).__name__ == "Sequential"
        if sequential and not any(self._split(layer) for layer in model.layers):
            return self._sequential(model)
        return self._functional(model)

    def _sequential(self, model: Any) -> tuple[Any, list[Pair]]:
        made = self.target.keras.Sequential(name=model.name)
        made.add(self._input_layer(model.inputs[0]))
        for layer in model.layers:
            made.add(self._layer(layer))
        calls = zip(self.source.calls(model), self.target.calls(made), strict=True)
        last = len(model.layers) - 1
        return made, [
            Pair(
                ours.operation.name,
                type(ours.operation).__name__,
                ours.outputs[0],
                theirs.outputs[0],
                place == last,
            )
            for place, (ours, theirs) in enumerate(calls)
        ]

    def _functional(self, model: Any) -> tuple[Any, list[Pair]]:
        inputs = [self._input(tensor) for tensor in model.inputs]
        tensors = {id(old): new for old, new in zip(model.inputs, inputs, strict=True)}
        ends = {id(tensor) for tensor in model.outputs}
        pairs: list[Pair] = []
        for call in needed(list(self.source.calls(model)), ends):
            arguments, options = swapped(call.arguments, tensors), swapped(call.options, tensors)
            for old, new in zip(
                call.outputs, flat(self._called(call.operation, arguments, options)), strict=True
            ):
                tensors[id(old)] = new
                kind = type(call.operation).__name__
                pairs.append(Pair(call.operation.name, kind, old, new, id(old) in ends))
        outputs = [tensors[id(tensor)] for tensor in model.outputs]
        made = self.target.keras.Model(
            inputs if len(inputs) > 1 else inputs[0],
            outputs if len(outputs) > 1 else outputs[0],
            name=model.name,
        )
        return made, pairs

    def _input(self, tensor: Any) -> Any:
        return self.target.keras.Input(
            batch_shape=tuple(tensor.shape), dtype=_dtype(tensor), name=_input_name(tensor)
        )

    def _input_layer(self, tensor: Any) -> Any:
        shape = {"batch_input_shape" if self.target.keras is keras2 else "batch_shape": tuple(tensor.shape)}
        return self.target.keras.layers.InputLayer(**shape, dtype=_dtype(tensor), name=_input_name(tensor))

    def _called(self, operation: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if not self.source.is_layer(operation):
            return self.operation(operation, arguments, options)
        if is_model(operation):
            given = flat([list(arguments), options])
            return self._layer(operation)(given if len(given) > 1 else given[0])
        result = self._layer(operation)(*arguments, **options)
        name = self._split(operation)
        return result if name is None else ACTIVATIONS[name](result, f"{operation.name}_{name}")

    def _split(self, layer: Any) -> str | None:
        """The activation that has to stand after the counterpart of `layer`."""
        if is_model(layer):
            return None
        name = split_activation(layer, self.target.keras.activations)
        if name is not None and (name not in ACTIVATIONS or self.target.keras is not keras2):
            raise NoCounterpart(layer.name, type(layer).__name__, f"the other Keras has no activation {name}")
        return name

    def _layer(self, layer: Any) -> Any:
        if id(layer) not in self.made:
            keras = self.target.keras
            made = (
                self._model(layer)[0]
                if is_model(layer)
                else make_layer(layer, keras.layers, keras.activations)
            )
            self.made[id(layer)] = (layer, made)
        return self.made[id(layer)][1]


def _operation_in_keras2(source: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    kind = type(source).__name__
    if kind not in TO_KERAS2:
        raise NoCounterpart(source.name, kind, "the operation has no counterpart in Keras 2")
    return TO_KERAS2[kind](source, *arguments, **options)


def _operation_in_keras3(
    table: Mapping[str, Callable[..., Any]], source: Any, arguments: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    if type(source).__name__ == "SlicingOpLambda":
        return arguments[0][_slices(arguments[1:], options)]
    symbol = str(getattr(source, "symbol", ""))
    if symbol not in table:
        kind = symbol or type(source).__name__
        raise NoCounterpart(source.name, kind, "the operation has no counterpart in Keras 3")
    given = {name: value for name, value in options.items() if name != "name"}
    try:
        return table[symbol](*arguments, **given)
    except (TypeError, ValueError) as error:
        raise NoCounterpart(source.name, symbol, str(error).splitlines()[0][:200]) from error


def _slices(arguments: tuple[Any, ...], options: Mapping[str, Any]) -> tuple[Any, ...]:
    """Keras 2 writes slice(a, b) as {"start": a, "stop": b, "step": None}."""
    spec = arguments[0] if arguments else options["slice_spec"]
    parts = spec if isinstance(spec, list | tuple) else [spec]
    return tuple(
        slice(part["start"], part["stop"], part["step"]) if isinstance(part, Mapping) else part
        for part in parts
    )


def _dtype(tensor: Any) -> str:
    """Of an input: floats are float32, whatever the model computes in."""
    name = str(getattr(tensor.dtype, "name", tensor.dtype))
    return "float32" if "float" in name else name


def _input_name(tensor: Any) -> str:
    history = tensor._keras_history
    layer = history.operation if hasattr(history, "operation") else history.layer
    return str(layer.name)
