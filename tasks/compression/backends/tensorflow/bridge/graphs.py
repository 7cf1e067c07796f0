"""How the two Kerases keep the graph of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from tasks.compression.backends.tensorflow._framework import keras as keras2

__all__ = ["Call", "Side", "flat", "is_model", "keras2_side", "keras3_side", "needed", "swapped"]

_KERAS2_OPERATIONS = ("TFOpLambda", "SlicingOpLambda")


@dataclass(frozen=True)
class Call:
    """`operation` was called on `arguments` and `options`, which hold tensors, and made `outputs`."""

    operation: Any
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    outputs: list[Any]


@dataclass(frozen=True)
class Side:
    """One of the two: its module, the calls of a model in the order of its graph, without its inputs, and
    whether an operation is a layer."""

    keras: Any
    calls: Callable[[Any], Iterator[Call]]
    is_layer: Callable[[Any], bool]


def keras2_side() -> Side:
    return Side(keras2, _calls_of_keras2, lambda layer: type(layer).__name__ not in _KERAS2_OPERATIONS)


def keras3_side() -> Side:
    import keras as keras3

    return Side(keras3, _calls_of_keras3, lambda operation: isinstance(operation, keras3.layers.Layer))


def is_model(layer: Any) -> bool:
    return all(hasattr(layer, name) for name in ("layers", "inputs", "predict"))


def needed(calls: Sequence[Call], ends: Set[int]) -> list[Call]:
    """The calls that the tensors of the ids `ends` depend on, in the same order. Keras 3 has those that
    compute masks in the graph too."""
    wanted, kept = set(ends), []
    for call in reversed(calls):
        if any(id(tensor) in wanted for tensor in call.outputs):
            kept.append(call)
            wanted |= {id(part) for part in flat([list(call.arguments), call.options])}
    return kept[::-1]


def swapped(value: Any, tensors: Mapping[int, Any]) -> Any:
    """`value` with the tensors in it replaced."""
    if id(value) in tensors:
        return tensors[id(value)]
    if isinstance(value, dict):
        return {key: swapped(part, tensors) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(swapped(part, tensors) for part in value)
    return value


def flat(value: Any) -> list[Any]:
    """The tensors in nested lists and dictionaries, those of a dictionary in the order of its keys."""
    if isinstance(value, dict):
        return [part for key in sorted(value) for part in flat(value[key])]
    if isinstance(value, list | tuple):
        return [part for item in value for part in flat(item)]
    return [value]


def _calls_of_keras3(model: Any) -> Iterator[Call]:
    graph = model._functional if type(model).__name__ == "Sequential" else model
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            if type(node.operation).__name__ != "InputLayer":
                given = node.arguments
                yield Call(node.operation, given.args, _options(given.kwargs), list(node.outputs))


def _calls_of_keras2(model: Any) -> Iterator[Call]:
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if not node.is_input:
                yield Call(node.layer, tuple(node.call_args), _options(node.call_kwargs), flat(node.outputs))


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is left open; masks, which layers pass on by themselves; and whether a layer is training,
    which Keras 3 writes down where a layer's own default says so."""
    return {
        name: value
        for name, value in given.items()
        if value is not None and name != "training" and not name.endswith("mask")
    }
