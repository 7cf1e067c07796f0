"""The values of small tensors of integers, for the shapes that are computed of shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.compression.outline.onnx.message import Node, Tensor
from tasks.compression.outline.onnx.shape_rules import slices

if TYPE_CHECKING:
    from tasks.compression.outline.onnx.shapes import Numbers, Shapes

__all__ = ["MOST_FOLLOWED", "values_of"]

MOST_FOLLOWED = 64


def values_of(node: Node, known: Shapes) -> Numbers | None:
    """Of the operators that shapes are computed with."""
    if node.operator == "Constant":
        found = node.attributes.get("value_ints", node.attributes.get("value_int"))
        return None if found is None else tuple(found) if isinstance(found, list) else (found,)
    if node.operator == "Shape":
        shape = known.of(node.inputs[0])
        return None if shape is None else shape[node.attributes.get("start", 0) : node.attributes.get("end")]
    rule = _OF_NUMBERS.get(node.operator)
    if rule is None:
        return None
    given = [known.array(name) for name in node.inputs if name]
    return tuple(rule(node, given, known).reshape(-1)) if given and given[0] is not None else None


def _repeated(node: Node, given: list[Any], known: Shapes) -> Any:
    value = node.attributes.get("value")
    (size,) = given[0]
    if not isinstance(value, Tensor) or value.dtype not in ("int32", "int64") or size > MOST_FOLLOWED:
        raise ValueError("no integers, or too many")
    values = value.values()
    return np.full(size, int(0 if values is None else values[0]), object)


def _cut(node: Node, given: list[Any], known: Shapes) -> Any:
    places = slices(node, given[0].shape, known)
    return given[0][tuple(places.get(axis, slice(None)) for axis in range(given[0].ndim))]


def _pairwise(function: Callable[[int, int], int]) -> Callable[[Node, list[Any], Shapes], Any]:
    apply = np.frompyfunc(lambda a, b: None if a is None or b is None else function(a, b), 2, 1)
    return lambda node, given, known: np.asarray(apply(*given), object)


_OF_NUMBERS: dict[str, Callable[[Node, list[Any], Shapes], Any]] = {
    **dict.fromkeys(
        ("Cast", "Identity", "Squeeze", "Unsqueeze", "Reshape"), lambda node, given, known: given[0]
    ),
    "Concat": lambda node, given, known: np.concatenate(given, node.attributes["axis"]),
    "Gather": lambda node, given, known: np.asarray(
        given[0].take(given[1].astype(int), node.attributes.get("axis", 0)), object
    ),
    "Slice": _cut,
    "Transpose": lambda node, given, known: given[0].transpose(node.attributes.get("perm")),
    "ConstantOfShape": _repeated,
    "Add": _pairwise(int.__add__),
    "Sub": _pairwise(int.__sub__),
    "Mul": _pairwise(int.__mul__),
    "Div": _pairwise(lambda a, b: int(a / b)),
    "Mod": _pairwise(int.__mod__),
}
