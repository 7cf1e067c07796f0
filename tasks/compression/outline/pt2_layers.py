"""The layers of a ``.pt2`` and their calls, under the names that the loader gives them.

What `backends.torch.rebuild.placing` says of names, without PyTorch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.compression.exported.modules import module_called, wishes
from tasks.compression.outline.facts import Call, Layer, Weight
from tasks.compression.outline.pt2_kinds import Argument, Known, kind_of

__all__ = ["Held", "layers_of", "names_in"]

Held = tuple[str, Weight, bool]
"""A stored array: its name in the caller's model, what it is, and whether it is a parameter."""

_TARGET = re.compile(r"torch\.ops\.(\w+)\.(\w+)\.?(\w*)")
_NODE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LIBRARY = "torch.nn.modules."
_TRANSPOSING = frozenset({"t", "numpy_T", "permute", "transpose"})
_NOTHING = frozenset({"_assert_async", "_assert_scalar", "_assert_tensor_metadata"})
_FORMS = ("as_int", "as_ints", "as_float", "as_bool")

Shape = tuple[int | None, ...]


def layers_of(
    graph: Mapping[str, Any], held: Mapping[str, Held], shapes: Mapping[str, Shape]
) -> tuple[tuple[Layer, ...], tuple[Call, ...]]:
    """`held` are the stored arrays by what the graph calls them, `shapes` those of its tensors, which are
    numbered in that order. Calls that are no layer go by the names of their nodes, and are not listed.
    ValueError, KeyError and the like for a graph that contradicts itself."""
    return _Calls(graph, held, shapes).found()


def names_in(argument: Argument) -> list[str]:
    """The tensors of an argument, or of a result."""
    if "as_tensor" in argument:
        return [argument["as_tensor"]["name"]]
    if "as_tensors" in argument:
        return [each["name"] for each in argument["as_tensors"]]
    if "as_optional_tensors" in argument:
        return [each["as_tensor"]["name"] for each in argument["as_optional_tensors"] if "as_tensor" in each]
    return []


class _Calls:
    def __init__(
        self, graph: Mapping[str, Any], held: Mapping[str, Held], shapes: Mapping[str, Shape]
    ) -> None:
        self._nodes = graph["nodes"]
        self._held = held
        self._shapes = shapes
        self._numbers = {name: number for number, name in enumerate(shapes)}
        self._used = set(_used(graph))
        self._across: dict[str, Held] = {}
        self._places = _Places(self._nodes, [name for name, _, _ in held.values()])
        self._layers: dict[str, Layer] = {}
        self._calls: list[Call] = []
        self._paths: set[str] = set()
        self._counted: set[str] = set()

    def found(self) -> tuple[tuple[Layer, ...], tuple[Call, ...]]:
        for node in self._nodes:
            _check_name(node["name"])
        nodes = [node for node in self._nodes if _operation(node)[0] not in _NOTHING]
        known = [self._known(node) for node in nodes]
        # Layers first: what is none is called by its node, if no layer has that name.
        places = [self._placed(node, each) for node, each in zip(nodes, known, strict=True)]
        for node, each, layer in zip(nodes, known, places, strict=True):
            made = self._function(node, each) if layer is None else layer
            self._layers.setdefault(made.path, made)
            self._calls.append(self._call(node, each, made.path))
        return tuple(self._layers.values()), tuple(self._calls)

    def _placed(self, node: Mapping[str, Any], known: Known) -> Layer | None:
        found = kind_of(known)
        if found is None:
            return None
        kind, tensors = found
        path = self._places.put(node, kind, tensors, known)
        self._counted |= {name for name, _ in tensors.values()}
        self._paths.add(path)
        return _layer(path, kind, tensors, known)

    def _call(self, node: Mapping[str, Any], known: Known, path: str) -> Call:
        data = [name for arg in known.arguments.values() for name in names_in(arg) if self._is_data(name)]
        made = [name for arg in node["outputs"] for name in names_in(arg) if name in self._numbers]
        return Call(
            layer=path,
            inputs=tuple(self._numbers[name] for name in data),
            outputs=tuple(self._numbers[name] for name in made),
            keywords={"operation": known.operation},
        )

    def _is_data(self, name: str) -> bool:
        return name in self._numbers and name not in self._held

    def _known(self, node: Mapping[str, Any]) -> Known:
        name, overload = _operation(node)
        plain = name if name.endswith("__") else name.removesuffix("_")
        arguments = {each["name"]: each["arg"] for each in node["inputs"]}
        alone = {name: each["as_tensor"]["name"] for name, each in arguments.items() if "as_tensor" in each}
        data = [each for arg in arguments.values() for each in names_in(arg)]
        results = [name for arg in node["outputs"] for name in names_in(arg)]
        several = names_in(arguments.get("params", {}))
        known = Known(
            operation=plain,
            overload=overload,
            in_place=plain != name,
            arguments=arguments,
            rank=len(self._shapes.get(data[0], ())) if data else 0,
            held={name: self._held[value] for name, value in alone.items() if value in self._held},
            transposed={name: self._across[value] for name, value in alone.items() if value in self._across},
            listed=tuple(self._held.get(each) for each in several),
            used=frozenset(place for place, name in enumerate(results) if name in self._used),
        )
        self._note_transposed(node, known)
        return known

    def _note_transposed(self, node: Mapping[str, Any], known: Known) -> None:
        first = next(iter(known.arguments), "")
        source = known.held.get(first)
        if source is None or known.operation not in _TRANSPOSING:
            return
        numbers = [known.number(name) for name in known.arguments if name != first]
        if known.operation == "permute" and numbers != [[1, 0]]:
            return
        if known.operation == "transpose" and set(numbers) not in ({0, 1}, {-2, -1}):
            return
        for result in node["outputs"]:
            for name in names_in(result):
                self._across[name] = source

    def _function(self, node: Mapping[str, Any], known: Known) -> Layer:
        """A call that is no layer, with the arrays that no other has."""
        used = [name for arg in known.arguments.values() for name in names_in(arg) if name in self._held]
        own = [each for each in dict.fromkeys(used) if self._held[each][0] not in self._counted]
        self._counted |= {self._held[each][0] for each in own}
        path = str(node["name"])
        while path in self._paths or path in self._layers:
            path += "_"
        return Layer(
            path=path,
            name=path,
            kind=known.operation,
            config=_config(known),
            weights=tuple(
                self._held[name][1].model_copy(update={"name": self._held[name][0]}) for name in own
            ),
            listed=False,
        )


class _Places:
    """Where layers are in the network that is rebuilt."""

    def __init__(self, nodes: Sequence[Mapping[str, Any]], held: Sequence[str]) -> None:
        named = {found[0] for node in nodes if (found := _library(node)) is not None}
        self._reserved = named | set(held)
        self._taken: dict[str, Any] = {}

    def put(
        self, node: Mapping[str, Any], kind: str, tensors: Mapping[str, tuple[str, Weight]], known: Known
    ) -> str:
        names = tuple(name for name, _ in tensors.values())
        identity = (kind, known.operation, known.in_place, json.dumps(_config(known), sort_keys=True), names)
        called = _library(node)
        own = called[0] if called is not None and called[1] == kind else None
        for path in self._wishes(node, own, tensors, known):
            if path not in self._taken:
                self._taken[path] = identity
                return path
            if (names or own is not None) and self._taken[path] == identity:
                return path
        raise AssertionError("there is always a next number")

    def _wishes(
        self,
        node: Mapping[str, Any],
        own: str | None,
        tensors: Mapping[str, tuple[str, Weight]],
        known: Known,
    ) -> Iterator[str]:
        stem = next((_stem(name, held) for name, (held, _) in tensors.items()), None)
        where = (module_called(node.get("metadata")) or ("", ""))[0]
        return wishes(own or stem, where, known.operation.strip("_"), self._reserved)


def _library(node: Mapping[str, Any]) -> tuple[str, str] | None:
    """The path and class of the layer of PyTorch that the call was made in."""
    found = module_called(node.get("metadata"))
    if found is None or not found[1].startswith(_LIBRARY):
        return None
    return found[0], found[1].rpartition(".")[2]


def _stem(name: str, held: str) -> str:
    """What is before the array's own name in the one it has in the caller's model."""
    for separator in (".", "_"):
        if held.endswith(separator + name):
            return held[: -len(name) - 1]
    return "" if held == name else held


def _layer(path: str, kind: str, tensors: Mapping[str, tuple[str, Weight]], known: Known) -> Layer:
    return Layer(
        path=path,
        name=path.rpartition(".")[2],
        kind=kind,
        config=_config(known),
        weights=tuple(weight.model_copy(update={"name": name}) for name, (_, weight) in tensors.items()),
    )


def _config(known: Known) -> dict[str, Any]:
    """What the call says in numbers beside its tensors: strides, groups and the like."""
    return {name: value[form] for name, value in known.arguments.items() for form in _FORMS if form in value}


def _used(graph: Mapping[str, Any]) -> Iterator[str]:
    for node in graph["nodes"]:
        for each in node["inputs"]:
            yield from names_in(each["arg"])
    for each in graph["outputs"]:
        yield from names_in(each)


def _operation(node: Mapping[str, Any]) -> tuple[str, str]:
    """Its name and overload."""
    match = _TARGET.fullmatch(node["target"])
    return (match[2], match[3]) if match else ("operation", "")


def _check_name(name: str) -> None:
    if not _NODE.fullmatch(name):
        raise ValueError("the name of a node is no identifier")
