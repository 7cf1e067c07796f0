"""What the rules of `operators` build a network with: tensors, constants and sizes by ONNX's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tasks.compression.backends.torch._framework import fx, nn, torch
from tasks.compression.outline.onnx.message import Model, Node, Shape
from tasks.compression.outline.onnx.reading import constants_of
from tasks.compression.outline.onnx.shapes import Numbers, shapes_of

__all__ = ["Graph", "Rule", "Unconvertible", "lowered"]


_FLOAT = 1  # of TensorProto.DataType


class Unconvertible(Exception):
    """A node that there is no rule for; says why where it is no matter of its operator alone."""


class Graph:
    """The network so far."""

    def __init__(self, root: fx.GraphModule, model: Model) -> None:
        self.root, self.graph = root, fx.Graph()
        self._constants = constants_of(model)
        # Sizes are followed with the batch left open, also of a file that takes one sample at a time.
        opened = [replace(value, shape=(None, *(value.shape or ())[1:])) for value in model.inputs]
        self._shapes = shapes_of(replace(model, inputs=tuple(opened)))
        self._values: dict[str, fx.Node] = {
            value.name: self.graph.placeholder(f"input_{place}") for place, value in enumerate(model.inputs)
        }
        self._makers = {name: node for node in model.nodes for name in node.outputs}
        self._held = 0

    def constant(self, name: str) -> torch.Tensor | None:
        """The values of a constant."""
        found = self._constants.get(name)
        values = None if found is None else found.values()
        if values is None or found is None:
            return None
        return torch.from_numpy(np.array(values).reshape(found.shape))

    def weight(self, node: Node, place: int) -> torch.Tensor:
        """The constant that a node has as an input. Unconvertible where that is computed."""
        found = self.constant(node.inputs[place]) if len(node.inputs) > place else None
        if found is None:
            raise Unconvertible("its weights are computed")
        return found

    def numbers(self, node: Node, place: int) -> list[int] | None:
        """The integers that a node has as an input; None where there is no such input. Unconvertible where
        they depend on the samples."""
        if len(node.inputs) <= place or not node.inputs[place]:
            return None
        found: Numbers | None = self._shapes.numbers(node.inputs[place])
        if found is None or None in found:
            raise Unconvertible("a size of it depends on the input")
        return [number for number in found if number is not None]

    def shape(self, name: str) -> Shape:
        """Unconvertible where even the number of axes is not known."""
        found = self._shapes.of(name)
        if found is None:
            raise Unconvertible("the shape of a tensor cannot be told")
        return found

    def known(self, node: Node) -> bool:
        """Whether a node computes sizes, which those that need them are told."""
        return bool(node.outputs) and self._shapes.numbers(node.outputs[0]) is not None

    def of(self, name: str) -> fx.Node:
        """The tensor of that name. Unconvertible for one that nothing was built for."""
        if name not in self._values:
            constant = self.constant(name)
            if constant is None:
                constant = self._sizes(name)
            target, self._held = f"constant_{self._held}", self._held + 1
            self.root.register_buffer(target, constant)
            self._values[name] = self.graph.get_attr(target)
        return self._values[name]

    def _sizes(self, name: str) -> torch.Tensor:
        """Those that were computed of fixed ones. Unconvertible for others."""
        numbers, shape = self._shapes.numbers(name), self._shapes.of(name)
        if numbers is None or shape is None or None in (*numbers, *shape):
            raise Unconvertible("it computes with sizes that depend on the input")
        maker = self._makers.get(name)
        as_float = maker is not None and maker.operator == "Cast" and maker.attributes.get("to") == _FLOAT
        found = torch.tensor(numbers, dtype=torch.float32 if as_float else torch.int64)
        return found.reshape([size or 0 for size in shape])

    def given(self, node: Node) -> list[fx.Node]:
        return [self.of(name) for name in node.inputs if name]

    def layer(self, name: str, module: nn.Module, *given: fx.Node) -> fx.Node:
        self.root.add_submodule(name, module)
        return self.graph.call_module(name, given)

    def call(self, function: Callable[..., Any], *given: Any, **options: Any) -> fx.Node:
        return self.graph.call_function(function, given, options)

    def made(self, node: Node, found: fx.Node | list[fx.Node]) -> None:
        outputs = found if isinstance(found, list) else [found]
        self._values.update(zip(filter(None, node.outputs), outputs, strict=False))


Rule = Callable[[Graph, Node, str], "fx.Node | list[fx.Node]"]


def lowered(graph: Graph, node: Node, name: str, rules: Mapping[str, Rule]) -> None:
    """Add what a node computes to the graph. Unconvertible."""
    if graph.known(node):
        return
    if node.operator not in rules:
        raise Unconvertible
    graph.made(node, rules[node.operator](graph, node, name))
