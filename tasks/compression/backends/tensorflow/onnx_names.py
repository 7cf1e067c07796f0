"""An ONNX graph in an order and under names that follow from what it computes.

tf2onnx takes names from a counter of the process, and the order of what does not depend on one another from
a set. Nodes are put in order of their depth and then of a digest of what they compute; then all that lies
between inputs and outputs is numbered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["graphs_of", "settle"]

Value = tuple[int, bytes]
"""How many nodes a tensor is away from the inputs at most, and the digest of what it holds."""


def settle(graph: Any) -> None:
    """Order and name everything in `graph`, in place, but for the names of its inputs and outputs."""
    _sort(graph, {})
    kept = {item.name: item.name for item in (*graph.input, *graph.output)}
    _rename(graph, kept, {})


def graphs_of(node: Any) -> Iterator[Any]:
    """The graphs within a node: bodies of loops, branches."""
    for attribute in node.attribute:
        yield from _graphs_in(attribute)


def _graphs_in(attribute: Any) -> list[Any]:
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _sort(graph: Any, outer: Mapping[str, Value]) -> Value:
    """Of an inner graph, which sees the tensors `outer`: what it computes, and how deep it gets."""
    values = dict(outer)
    for place, item in enumerate(graph.input):
        values[item.name] = (0, _digest(b"input", place))
    for item in graph.initializer:
        values[item.name] = (0, _constant(item))
    nodes = []
    for node in graph.node:
        value = _value(node, values)
        nodes.append((value, type(node).FromString(node.SerializeToString())))
        for place, name in enumerate(node.output):
            values[name] = (value[0], _digest(value[1], place))
    nodes.sort(key=lambda entry: entry[0])
    del graph.node[:]
    graph.node.extend(node for _, node in nodes)
    given = [values[item.name] for item in graph.output]
    depth = max((value[0] for value in (*given, *(value for value, _ in nodes))), default=0)
    return depth, _digest(*(digest for _, digest in given))


def _value(node: Any, values: Mapping[str, Value]) -> Value:
    used = [values[name] if name else (0, b"") for name in node.input]
    parts: list[Any] = [node.op_type, node.domain, len(node.output), *(digest for _, digest in used)]
    for attribute in sorted(node.attribute, key=lambda item: str(item.name)):
        inner = [_sort(graph, values) for graph in _graphs_in(attribute)]
        used += inner
        content = [digest for _, digest in inner] or [attribute.SerializeToString(deterministic=True)]
        parts += [attribute.name, *content]
    return 1 + max((depth for depth, _ in used), default=0), _digest(*parts)


def _constant(item: Any) -> bytes:
    nameless = type(item).FromString(item.SerializeToString())
    nameless.ClearField("name")
    return _digest(nameless.SerializeToString(deterministic=True))


def _digest(*parts: Any) -> bytes:
    found = hashlib.sha256()
    for part in parts:
        content = part if isinstance(part, bytes) else str(part).encode()
        found.update(len(content).to_bytes(8, "little") + content)
    return found.digest()


def _rename(graph: Any, names: dict[str, str], sizes: dict[str, str]) -> None:
    """`names` are those of tensors, across inner graphs, which see the outer ones'; `sizes` of open axes."""

    def renamed(name: str) -> str:
        return names.setdefault(name, f"t{len(names)}") if name else name

    graph.name, graph.doc_string = "model", ""
    del graph.value_info[:]
    for item in (*graph.input, *graph.output):
        for axis in item.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = sizes.setdefault(axis.dim_param, f"n{len(sizes)}")
    for item in graph.input:
        item.name = renamed(item.name)
    for number, node in enumerate(graph.node):
        node.name, node.doc_string = f"{node.op_type}_{number}", ""
        node.input[:] = [renamed(name) for name in node.input]
        for inner in graphs_of(node):
            _rename(inner, names, sizes)
        node.output[:] = [renamed(name) for name in node.output]
    for item in (*graph.initializer, *graph.output):
        item.name = renamed(item.name)
    ordered = sorted(graph.initializer, key=lambda item: (len(item.name), item.name))
    constants = [type(item).FromString(item.SerializeToString()) for item in ordered]
    del graph.initializer[:]
    graph.initializer.extend(constants)
