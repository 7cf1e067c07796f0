"""An outline as the graph of calls that structured pruning and the counting of MACs read.

Layers are described: their configuration and the shapes of their weights, under the names Keras gives them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.compression.backends.tensorflow.structured.graph import Call, Graph, Tensor
from tasks.compression.backends.tensorflow.structured.macs import uses
from tasks.compression.outline import pt2_macs
from tasks.compression.outline.facts import Call as OutlineCall
from tasks.compression.outline.facts import Layer, Outline
from tasks.compression.outline.onnx import macs as onnx_macs
from tasks.compression.outline.operations import macs_of

__all__ = ["Cost", "Described", "Variable", "cost", "graph_of"]

_RECURRENT = frozenset(["LSTM", "GRU", "SimpleRNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"])
# Rebuilt from operations that treat each value by itself.
_LIKE_HARD_SIGMOID = frozenset(["hard_silu", "hard_swish"])
_ACTIVATIONS = ("activation", "recurrent_activation")


@dataclass(frozen=True, eq=False)
class Variable:
    """A weight of which only the shape is known."""

    name: str
    shape: tuple[int, ...]


class Described:
    """A layer by its configuration: attributes are entries of it, weights, or parts of a wrapper."""

    def __init__(
        self, kind: str, name: str, config: Mapping[str, Any], weights: Mapping[str, Variable]
    ) -> None:
        self.keras_kind = kind
        self.name = name
        self.weights = list(weights.values())
        self._config = dict(config)
        self._weights = dict(weights)
        self._parts: dict[str, Any] = {}
        if kind in _RECURRENT:
            self._parts["cell"] = Described("Cell", name, config, weights)
        if kind == "Bidirectional":
            self._parts |= {
                "layer": self._part("forward/"),
                "forward_layer": self._part("forward/"),
                "backward_layer": self._part("backward/", "backward_layer"),
            }
            if "backward_layer" in config:
                self._parts["_backward_layer_config"] = config["backward_layer"]
        if kind == "TimeDistributed":
            self._parts["layer"] = self._part("")
        if kind == "MultiHeadAttention":
            self._parts |= _attention_parts(self._config, self.weights)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("keras_kind", "_parts", "_weights", "_config"):
            raise AttributeError(name)
        for found in (self._parts, self._weights):
            if name in found:
                return found[name]
        if name in ("bias", "gamma", "beta"):
            return None
        if name == "symbol":
            return self._config.get("function")
        if name == "groups":
            return self._config.get("groups", 1)  # Keras 3's transposed convolutions have none.
        if name not in self._config:
            raise AttributeError(f"nothing is known of {name} of a {self.keras_kind}")
        value = self._config[name]
        if name in _ACTIVATIONS:
            return _Activation.of(value)
        if name == "axis" and self.keras_kind.endswith("BatchNormalization"):
            return value if isinstance(value, list) else [value]
        return value

    def _part(self, prefix: str, entry: str = "layer") -> Described:
        inner = self._config.get(entry) or self._config.get("layer") or {}
        weights = {
            name.removeprefix(prefix): variable
            for name, variable in self._weights.items()
            if name.startswith(prefix)
        }
        config = inner.get("config") or {}
        return Described(str(inner.get("class_name")), str(config.get("name")), config, weights)


class _Activation:
    """A function by name; Keras's own are named by text alone."""

    def __init__(self, name: str, module: str) -> None:
        self.__name__ = name
        self.__module__ = module

    @classmethod
    def of(cls, value: Any) -> _Activation | None:
        if value is None or isinstance(value, str):
            known = "hard_sigmoid" if value in _LIKE_HARD_SIGMOID else value
            return None if known is None else cls(known, "tf_keras.activations")
        name = value.get("class_name") if isinstance(value, Mapping) else None
        return cls(str(name), "")


_PROJECTION = re.compile(r"_?(?:attention_)?(query|key|value|output)(?:_dense)?")


def _attention_parts(config: Mapping[str, Any], weights: Sequence[Variable]) -> dict[str, Any]:
    """The four projections, and the sizes under the names the layer has them."""
    kernels: dict[str, Variable] = {}
    for variable in weights:
        named = [found[1] for part in variable.name.split("/") if (found := _PROJECTION.fullmatch(part))]
        if named and len(variable.shape) > 2:
            kernels[named[-1]] = variable
    # Every position of what comes in is projected by itself.
    parts: dict[str, Any] = {
        f"_{name}_dense": Described("EinsumDense", name, {"equation": "...c,cde->...de"}, {"kernel": kernel})
        for name, kernel in kernels.items()
    }
    size = config.get("key_dim")
    return {
        **parts,
        "_num_heads": config.get("num_heads"),
        "_key_dim": size,
        "_value_dim": config.get("value_dim") or size,
    }


def graph_of(outline: Outline) -> Graph:
    """The calls of a traced outline; a layer called twice is one object in both."""
    layers = {layer.path: _described(layer) for layer in outline.layers}

    def tensor(number: int) -> Tensor:
        return Tensor(number, outline.tensors[number] or ())

    calls = tuple(
        Call(
            layers[call.layer],
            call.layer,
            tuple(map(tensor, call.inputs)),
            tuple(map(tensor, call.outputs)),
            call.arguments,
            call.keywords,
        )
        for call in outline.calls
    )
    return Graph(calls, tuple(map(tensor, outline.outputs)))


def _described(layer: Layer) -> Described:
    weights = {weight.name: Variable(weight.name, weight.shape) for weight in layer.weights}
    return Described(layer.kind, layer.name, layer.config, weights)


@dataclass
class Cost:
    """MACs of one sample by layer; `unknown` are layers with weights whose MACs do not follow from the file,
    `assumed` those whose open sizes were counted as 1."""

    macs: dict[str, int] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    assumed: set[str] = field(default_factory=set)

    @property
    def total(self) -> int:
        return sum(self.macs.values())


def cost(outline: Outline) -> Cost:
    """As structured.macs counts them."""
    found = Cost()
    if outline.kind in _OPERATIONS:
        return _operations_cost(outline, _OPERATIONS[outline.kind])
    if not outline.traced:
        found.unknown = {layer.path for layer in outline.layers if layer.weights}
        return found
    for call in graph_of(outline).calls:
        try:
            usage = uses(call)
        # Of a layer whose parts the file does not describe.
        except (AttributeError, TypeError, ValueError, IndexError):
            found.unknown.add(call.name)
            continue
        macs = usage.fixed
        for variable, times in usage.kernels:
            size = 1
            for length in variable.shape:
                size *= length
            macs += times * size
        found.macs[call.name] = found.macs.get(call.name, 0) + macs
        if macs and any(
            None in tensor.shape[1:] or not tensor.shape for tensor in (*call.inputs, *call.outputs)
        ):
            found.assumed.add(call.name)
    return found


_OPERATIONS: dict[str, Callable[[Outline, Layer, OutlineCall], int | None]] = {
    "tflite": macs_of,
    "pt2": pt2_macs.macs_of,
    "onnx": onnx_macs.macs_of,
}
"""How the operations of a kind are counted, where they are its layers."""


def _operations_cost(outline: Outline, count: Callable[[Outline, Layer, OutlineCall], int | None]) -> Cost:
    found = Cost()
    layers = {layer.path: layer for layer in outline.layers}
    for call in outline.calls:
        macs = count(outline, layers[call.layer], call)
        if macs is None:
            found.unknown.add(call.layer)
            continue
        found.macs[call.layer] = found.macs.get(call.layer, 0) + macs
        shapes = [outline.tensors[number] or () for number in (*call.inputs, *call.outputs)]
        if macs and any(None in shape[1:] for shape in shapes):
            found.assumed.add(call.layer)
    return found
