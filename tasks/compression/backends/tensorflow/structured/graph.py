"""A Keras model as a flat list of layer calls, nested models inlined.

Everything else of this package reads the list, so that only this file knows how Keras keeps its graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.compression.errors import CompressionError

__all__ = ["Call", "Graph", "Shape", "Tensor", "is_keras", "is_network", "kind", "sublayers", "trace"]

Shape = tuple[int | None, ...]
"""The shape of a tensor with its batch axis; None where the size is not known."""


@dataclass(frozen=True)
class Tensor:
    """An edge of the graph: `number` tells tensors apart.

    `as_built` says that the sizes in `shape` are those a nested model was built with: it is called on others,
    and Keras cannot tell what becomes of them.
    """

    number: int
    shape: Shape
    as_built: bool = False

    @property
    def width(self) -> int:
        """The size of the last axis, the channels; 0 when it is not known or there is none."""
        return (self.shape[-1] or 0) if len(self.shape) > 1 else 0


@dataclass(frozen=True)
class Call:
    """One call of a layer that is no nested model.

    `name` is the layer's path: its name, after those of the nested models it is in (``encoder/conv1``).
    `arguments` and `keywords` are what the layer was called with, Keras's symbolic tensors included. A
    layer called twice has two calls.
    """

    layer: Any
    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    arguments: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """The calls in an order in which they can be computed. An input of the model is a call without inputs."""

    calls: tuple[Call, ...]
    outputs: tuple[Tensor, ...]


def kind(layer: Any) -> str:
    """The name of the layer's class; a layer that is only described has it as `keras_kind`."""
    return str(getattr(layer, "keras_kind", None) or type(layer).__name__)


def is_keras(layer: Any) -> bool:
    """Whether the layer is exactly one of Keras's own."""
    return hasattr(layer, "keras_kind") or type(layer).__module__.startswith("tf_keras.")


def is_network(layer: Any) -> bool:
    """Whether `layer` is a model with a graph of its own: functional, or sequential with known input."""
    return bool(getattr(layer, "_is_graph_network", False)) and hasattr(layer, "_nodes_by_depth")


def sublayers(model: Any) -> list[Any]:
    """The layers right inside a model in the order of its config; ``Sequential.layers`` hides the input."""
    return list(model._flatten_layers(include_self=False, recursive=False))


def trace(model: Any) -> Graph:
    """The graph of a functional or built sequential tf_keras model.

    CompressionError unsupported_model for subclassed and unbuilt models, whose graph cannot be known,
    and for a layer that is in the model under two names, whose weights could not be kept shared.
    """
    if not is_network(model):
        raise CompressionError(
            "unsupported_model",
            f"{model.name!r} is a {kind(model)} without a graph of layers, so channels cannot be followed",
            hint="Use a functional model, or a sequential model whose input shape is known.",
        )
    tracer = _Tracer()
    inputs = [tracer.tensor(_shape(symbolic)) for symbolic in model.inputs]
    outputs = tracer.walk(model, inputs, prefix="", outermost=True)
    return Graph(tuple(tracer.calls), tuple(outputs))


class _Tracer:
    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._names: dict[int, str] = {}
        self._tensors = 0

    def tensor(self, shape: Shape, *, as_built: bool = False) -> Tensor:
        self._tensors += 1
        return Tensor(self._tensors - 1, shape, as_built)

    def walk(
        self, model: Any, inputs: Sequence[Tensor], prefix: str, *, outermost: bool = False
    ) -> list[Tensor]:
        """Add the calls of `model` called on `inputs`; the tensors that come out of it."""
        known: dict[int, Tensor] = {}
        for symbolic, given in zip(model.inputs, inputs, strict=True):
            entrance = symbolic.node.layer
            name = self._name(entrance, prefix)
            known[id(symbolic)] = given
            self.calls.append(Call(entrance, name, () if outermost else (given,), (given,)))
        for node in _nodes(model):
            if all(id(symbolic) in known for symbolic in node.keras_inputs):
                results = self._call(node, [known[id(symbolic)] for symbolic in _given(node)], prefix)
                known.update(zip(map(id, _flat(node.outputs)), results, strict=True))
        return [known[id(symbolic)] for symbolic in model.outputs]

    def _call(self, node: Any, inputs: list[Tensor], prefix: str) -> list[Tensor]:
        name = self._name(node.layer, prefix)
        if is_network(node.layer):
            return self.walk(node.layer, inputs, f"{name}/")
        shapes, computed = _output_shapes(node, inputs)
        doubtful = not computed or any(tensor.as_built for tensor in inputs)
        outputs = [self.tensor(shape, as_built=doubtful and len(shape) > 2) for shape in shapes]
        keywords = dict(node.call_kwargs)
        self.calls.append(
            Call(node.layer, name, tuple(inputs), tuple(outputs), tuple(node.call_args), keywords)
        )
        return outputs

    def _name(self, layer: Any, prefix: str) -> str:
        name = f"{prefix}{layer.name}"
        if self._names.setdefault(id(layer), name) != name:
            raise CompressionError(
                "unsupported_model",
                f"layer {name!r} is also {self._names[id(layer)]!r}: an outer and a nested model share it",
                layer=name,
            )
        return name


def _nodes(model: Any) -> Iterator[Any]:
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if not node.is_input:
                yield node


def _given(node: Any) -> list[Any]:
    """The tensors a node is called on. Keras hands a dict to a nested model by the names of its inputs."""
    first = node.call_args[0] if node.call_args else None
    names = getattr(node.layer, "input_names", None) if is_network(node.layer) else None
    if names and isinstance(first, Mapping) and set(names) == set(first):
        return [first[name] for name in names]
    return list(node.keras_inputs)


def _output_shapes(node: Any, inputs: Sequence[Tensor]) -> tuple[list[Shape], bool]:
    """And whether they follow from those of `inputs`: if not they are those of the built model."""
    recorded = [_shape(symbolic) for symbolic in _flat(node.outputs)]
    shapes = [tensor.shape for tensor in inputs]
    if shapes == [_shape(symbolic) for symbolic in node.keras_inputs]:
        return recorded, True
    # A nested model, called on another size than it was built with.
    try:
        computed = node.layer.compute_output_shape(shapes[0] if len(shapes) == 1 else shapes)
    except (NotImplementedError, TypeError, ValueError):
        return recorded, False
    listed = computed if isinstance(computed, list) else [computed]
    if len(listed) != len(recorded):
        return recorded, False
    return [tuple(shape) for shape in listed], True


def _shape(symbolic: Any) -> Shape:
    return () if symbolic.shape.rank is None else tuple(symbolic.shape.as_list())


def _flat(structure: Any) -> list[Any]:
    """Keras's nests are lists, tuples and dicts in the order of their keys."""
    if isinstance(structure, Mapping):
        return [leaf for key in sorted(structure) for leaf in _flat(structure[key])]
    if isinstance(structure, list | tuple):
        return [leaf for part in structure for leaf in _flat(part)]
    return [structure]
