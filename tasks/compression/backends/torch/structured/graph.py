"""A PyTorch network as a flat list of calls: of its layers, of functions, of constants it holds.

A tensor may have an axis that channels are followed along, which the rules write on it: axis 1 after a
convolution, the last after a linear layer, another one once axes were moved. Shapes are those that a batch of
samples has on its way through.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.compression.backends.torch._framework import fx, nn, torch
from tasks.compression.backends.torch.network import Signature
from tasks.compression.backends.torch.predict import evaluating
from tasks.compression.backends.torch.structured.examples import example_inputs
from tasks.compression.backends.torch.structured.operations import operation

__all__ = [
    "BATCH",
    "Call",
    "Graph",
    "Layer",
    "Tensor",
    "Variable",
    "kind",
    "per_sample",
    "tensors_in",
    "trace",
]

BATCH = 2
"""More than one, so that what is squeezed is never the batch."""

Sizes = tuple[int, ...]


@dataclass(eq=False)
class Variable:
    """A parameter, or a statistic that is stored with the parameters; `name` is the one in its layer."""

    name: str
    tensor: torch.Tensor

    @property
    def shape(self) -> Sizes:
        return tuple(self.tensor.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self.tensor.detach().numpy(), dtype=dtype)


@dataclass(eq=False)
class Layer:
    """What is called: a module, or else an operation by its bare name. `path` is the module's in the model;
    `shared_with` another layer that has one of its weights, which are counted once: with the layer that is
    called first, and with the other they are `borrowed`."""

    path: str
    kind: str
    module: nn.Module | None = None
    weights: list[Variable] = field(default_factory=list)
    shared_with: str | None = None
    borrowed: list[Variable] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]

    def of(self, name: str) -> Variable | None:
        """The weight of that name."""
        return next((weight for weight in self.weights if weight.name == name), None)


@dataclass(eq=False)
class Tensor:
    """An edge of the graph. Without an `axis` its channels are not followed, and `why` says why not."""

    number: int
    shape: Sizes
    axis: int | None = None
    why: str = ""

    @property
    def width(self) -> int:
        return 0 if self.axis is None else self.shape[self.axis]


@dataclass(frozen=True)
class Call:
    """`arguments` and `keywords` are what the node `node` has, with Tensors and numbers for other nodes."""

    layer: Layer
    name: str
    node: str
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    arguments: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    calls: tuple[Call, ...]
    outputs: tuple[Tensor, ...]


def kind(layer: Layer) -> str:
    """The name of a layer's class, or of an operation."""
    return layer.kind


def per_sample(count: int) -> int:
    """Of what was counted for a batch."""
    return -(-count // BATCH)


def tensors_in(structure: Any) -> Iterator[Tensor]:
    """Those in nests of tuples, lists and dicts, in their order."""
    if isinstance(structure, Tensor):
        yield structure
    elif isinstance(structure, Mapping):
        for value in structure.values():
            yield from tensors_in(value)
    elif isinstance(structure, tuple | list):
        for value in structure:
            yield from tensors_in(value)


def trace(model: fx.GraphModule, signature: Signature) -> Graph:
    """The calls of `model`, which is run once, in evaluation, on a batch of made-up samples."""
    recorder = _Recorder(model)
    with evaluating(model), torch.no_grad():
        recorder.run(*example_inputs(model, signature, BATCH))
    return _Tracer(model, recorder.results).graph()


class _Recorder(fx.Interpreter):  # type: ignore[misc]
    """Runs a graph, and keeps of every result its shapes, or itself where it has no tensor."""

    def __init__(self, model: fx.GraphModule) -> None:
        super().__init__(model)
        self.results: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        self.results[n.name] = _shaped(result)
        return result


@dataclass(frozen=True)
class _Shape:
    sizes: Sizes


def _shaped(result: Any) -> Any:
    if isinstance(result, torch.Tensor):
        return _Shape(tuple(result.shape))
    if isinstance(result, tuple | list) and not isinstance(result, torch.Size):
        return tuple(_shaped(part) for part in result)
    return result


class _Tracer:
    def __init__(self, model: fx.GraphModule, results: Mapping[str, Any]) -> None:
        self._model = model
        self._results = results
        self._calls: list[Call] = []
        self._values: dict[fx.Node, Any] = {}
        self._layers: dict[int, Layer] = {}
        self._owners: dict[int, str] = {}
        self._tensors = 0

    def graph(self) -> Graph:
        outputs: tuple[Tensor, ...] = ()
        for node in self._model.graph.nodes:
            if node.op == "output":
                outputs = tuple(tensors_in(self._resolved(node.args)))
            else:
                self._values[node] = self._value(node)
        return Graph(tuple(self._calls), outputs)

    def _value(self, node: fx.Node) -> Any:
        result = self._results[node.name]
        arguments, keywords = self._resolved(node.args), self._resolved(node.kwargs)
        if node.op == "call_function" and operation(node) == "getitem" and _holds(arguments[0]):
            return arguments[0][arguments[1]]
        value = self._made(result)
        outputs = tuple(tensors_in(value))
        if not outputs:
            return result
        layer = self._layer(node)
        inputs = tuple(tensors_in((arguments, keywords)))
        name = layer.path if layer.module is not None else node.name
        self._calls.append(Call(layer, name, node.name, inputs, outputs, arguments, keywords))
        return value

    def _layer(self, node: fx.Node) -> Layer:
        if node.op == "call_module":
            return self._module(str(node.target))
        if node.op == "placeholder":
            return Layer(node.name, "Input")
        if node.op == "get_attr":
            return self._constant(str(node.target))
        return Layer(node.name, operation(node))

    def _module(self, path: str) -> Layer:
        module = self._model.get_submodule(path)
        if id(module) not in self._layers:
            values = [*module.named_parameters(), *module.named_buffers()]
            layer = Layer(path, type(module).__name__, module, self._variables(values))
            self._layers[id(module)] = self._owned(layer)
        return self._layers[id(module)]

    def _constant(self, path: str) -> Layer:
        owner, _, name = path.rpartition(".")
        value = getattr(self._model.get_submodule(owner), name)
        held = [(path, value)] if isinstance(value, nn.Parameter) else []
        layer = Layer(path, "Constant", None, self._variables(held))
        key = id(value)
        if key not in self._layers:
            self._layers[key] = self._owned(layer)
        return self._layers[key]

    def _variables(self, values: Sequence[tuple[str, torch.Tensor]]) -> list[Variable]:
        return [Variable(name, value) for name, value in values if value.is_floating_point()]

    def _owned(self, layer: Layer) -> Layer:
        """Note whose weights are whose: what two layers have in common neither can lose a part of."""
        for weight in list(layer.weights):
            owner = self._owners.setdefault(id(weight.tensor), layer.path)
            if owner != layer.path:
                layer.shared_with = owner
                layer.weights.remove(weight)
                layer.borrowed.append(weight)
                for other in self._layers.values():
                    if other.path == owner:
                        other.shared_with = layer.path
        return layer

    def _made(self, result: Any) -> Any:
        if isinstance(result, _Shape):
            self._tensors += 1
            return Tensor(self._tensors - 1, result.sizes)
        if isinstance(result, tuple):
            return tuple(self._made(part) for part in result)
        return result

    def _resolved(self, arguments: Any) -> Any:
        return fx.node.map_arg(arguments, lambda node: self._values[node])


def _holds(value: Any) -> bool:
    """Whether it is a nest of tensors rather than one."""
    return isinstance(value, tuple | list) and any(True for _ in tensors_in(value))
