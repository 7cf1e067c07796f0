"""The calls of a program, one after the other, as calls of layers and functions."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from tasks.compression.backends.torch._framework import export, fx, nn
from tasks.compression.backends.torch.rebuild import matrices, norms, plain, recurrent
from tasks.compression.backends.torch.rebuild.held import Call, Held, held_tensors
from tasks.compression.backends.torch.rebuild.making import Converter, Made, in_training_mode
from tasks.compression.backends.torch.rebuild.placing import Places, module_called
from tasks.compression.errors import CompressionError

__all__ = ["GraphBuilder"]

CONVERTERS: dict[str, Converter] = {
    **matrices.CONVERTERS,
    **norms.CONVERTERS,
    **recurrent.CONVERTERS,
    **plain.CONVERTERS,
}
_CHECKS = frozenset({"_assert_async", "_assert_scalar", "_assert_tensor_metadata"})
"""Operators that answer with nothing, and check what was true when the program was exported."""
_COPYING = frozenset(
    {"aten.lift_fresh_copy.default", "aten.lift_fresh.default", "aten.detach.default", "aten.detach_.default"}
)


class GraphBuilder:
    """Makes a GraphModule of a program. `made` says which node of the program each of its nodes is.

    Raises CompressionError unsupported_model for what no network of layers can be made of.
    """

    def __init__(self, program: export.ExportedProgram) -> None:
        self._program = program
        self._held = held_tensors(program)
        self._graph = fx.Graph()
        self._values: dict[fx.Node, Any] = {}
        self._unpacked: dict[fx.Node, Mapping[int, tuple[int, ...]]] = {}
        self._places = Places(program.graph.nodes, self._held.values())
        self._fetched: dict[str, fx.Node] = {}
        self.made: dict[str, fx.Node] = {}
        self.functions_with_parameters: list[tuple[str, str]] = []

    def build(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> fx.GraphModule:
        """A network of the program's inputs and outputs with these names."""
        for node in self._program.graph.nodes:
            if node.op == "placeholder" and node.name in inputs:
                self._values[node] = self._graph.placeholder(node.name)
            elif node.op == "call_function":
                self._add(node)
        answers = [self._value(node) for node in self._outputs(outputs)]
        self._graph.output(answers[0] if len(answers) == 1 else tuple(answers))
        model = fx.GraphModule(self._places.root, self._graph, "Network")
        model.graph.eliminate_dead_code()
        model.graph.lint()
        model.delete_all_unused_submodules()
        model.recompile()
        return model.eval()

    def _outputs(self, names: tuple[str, ...]) -> list[fx.Node]:
        by_name = {node.name: node for node in self._program.graph.nodes}
        return [by_name[name] for name in names]

    def _add(self, node: fx.Node) -> None:
        if self._left_out(node):
            return
        if node.target is operator.getitem and node.args[0] in self._unpacked:
            self._unpack(node)
            return
        made = self._layer(node)
        if made is None:
            self._values[node] = self._function(node)
        else:
            self._values[node] = self._call(node, made)

    def _left_out(self, node: fx.Node) -> bool:
        target = str(node.target)
        if target.removeprefix("aten.").partition(".")[0] in _CHECKS:
            return True
        source = node.args[0] if node.args else None
        held = self._held.get(source) if isinstance(source, fx.Node) else None
        if held is None:
            return False
        if target in _COPYING and held.kind == "constant":
            self._held[node] = held
            return True
        if target == "aten.add_.Tensor" and not held.tensor.is_floating_point():
            raise in_training_mode(node, f"{held.name} counts the batches")
        return False

    def _layer(self, node: fx.Node) -> Made | None:
        converter = CONVERTERS.get(str(node.target))
        made = None if converter is None else converter(Call.of(node, self._held))
        if made is None or made.outputs == 1:
            return made
        wanted = {user.args[1] for user in node.users if user.target is operator.getitem and user.users}
        return made if wanted <= {0} else None

    def _call(self, node: fx.Node, made: Made) -> fx.Node:
        path = self._places.put(node, made)
        arguments = fx.map_arg(made.given, self._value)
        called = self._graph.call_module(path, arguments)
        self.made[called.name] = node
        if made.outputs > 1:
            self._unpacked[node] = {0: ()}
        elif made.unpacked is not None:
            self._unpacked[node] = made.unpacked
        return called

    def _unpack(self, node: fx.Node) -> None:
        whole, place = node.args
        value = self._values[whole]
        for index in self._unpacked[whole].get(place, ()):
            value = self._graph.call_function(operator.getitem, (value, index))
        self._values[node] = value

    def _function(self, node: fx.Node) -> fx.Node:
        self._refuse_changes(node)
        parameters = [
            held.name
            for each in node.all_input_nodes
            if (held := self._held.get(each)) and held.kind == "parameter"
        ]
        if parameters:
            self.functions_with_parameters.append((str(node.target), parameters[0]))
        arguments, options = fx.map_arg((node.args, node.kwargs), self._value)
        called = self._graph.create_node("call_function", node.target, arguments, options, name=node.name)
        self.made[called.name] = node
        # Layers have their names; of a function, what it was called in is told by this alone.
        path = module_called(node)[0]
        if path:
            called.meta["nn_module_stack"] = {path: (path, nn.Module)}
        return called

    def _refuse_changes(self, node: fx.Node) -> None:
        """A network that writes into its own weights would not answer the same twice."""
        schema = getattr(node.target, "_schema", None)
        for argument, value in zip(schema.arguments if schema else (), node.args, strict=False):
            held = self._held.get(value) if isinstance(value, fx.Node) else None
            if held is not None and argument.alias_info is not None and argument.alias_info.is_write:
                raise CompressionError(
                    "unsupported_model",
                    f"the model changes {held.name} by {node.target} whenever it is called",
                    hint="export a model whose forward leaves its parameters and buffers as they are",
                )

    def _value(self, node: fx.Node) -> fx.Node:
        held = self._held.get(node)
        if held is None:
            return self._values[node]
        return self._fetch(held)

    def _fetch(self, held: Held) -> fx.Node:
        if held.name not in self._fetched:
            self._fetched[held.name] = self._graph.get_attr(self._places.hold(held))
        return self._fetched[held.name]
