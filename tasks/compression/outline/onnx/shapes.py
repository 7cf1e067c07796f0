"""The shapes of the tensors between the nodes of an ONNX file.

Followed from the inputs node by node, sizes left open None; where a rule is missing, what the file itself
says of a tensor is taken. Small integer tensors are followed by value, for shapes computed of shapes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.compression.outline.onnx.message import Model, Node, Shape, Tensor
from tasks.compression.outline.onnx.shape_rules import RULES, broadcast
from tasks.compression.outline.onnx.size_values import MOST_FOLLOWED, values_of

__all__ = ["Numbers", "Shapes", "shapes_of"]

_MOST_AXES = 32
_LARGEST = (1 << 63) - 1
_BROADCAST_NAMES = """
    Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max
    Mean Min Mod Mul Or Pow Sub Sum Where Xor
"""
_BROADCAST = frozenset(_BROADCAST_NAMES.split())
_LIKE_FIRST_NAMES = """
    Abs Acos Acosh Asin Asinh Atan Atanh BatchNormalization BitwiseNot Cast CastLike Ceil Celu Clip Cos Cosh
    CumSum Dropout Elu Erf Exp Floor Gelu GroupNormalization HardSigmoid HardSwish Hardmax Identity
    InstanceNormalization IsInf IsNaN LRN LayerNormalization LeakyRelu Log LogSoftmax LpNormalization
    MeanVarianceNormalization Mish Neg Not PRelu RMSNormalization Reciprocal Relu ReverseSequence
    RotaryEmbedding Round ScatterElements ScatterND Selu Shrink Sigmoid Sign Sin Sinh Softmax Softplus
    Softsign Sqrt Swish Tan Tanh ThresholdedRelu Trilu
"""
_LIKE_FIRST = frozenset(_LIKE_FIRST_NAMES.split())

Numbers = tuple[int | None, ...]


class Shapes:
    """`of` is the shape of a tensor by name, None where it is not known."""

    def __init__(self, model: Model) -> None:
        self._shapes: dict[str, Shape] = {}
        self._numbers: dict[str, Numbers] = {}
        for name, constant in model.constants.items():
            self._hold(name, constant)
        for value in model.inputs:
            if value.shape is not None:
                self._shapes[value.name] = value.shape
        told = {value.name: value.shape for value in (*model.values.values(), *model.outputs)}
        for node in model.nodes:
            self._follow(node, told)

    def of(self, name: str) -> Shape | None:
        return self._shapes.get(name)

    def numbers(self, name: str) -> Numbers | None:
        """The values of a small tensor of integers, as far as they are known."""
        return self._numbers.get(name)

    def array(self, name: str) -> Any:
        """These values in their shape; None where they are not followed."""
        numbers, shape = self._numbers.get(name), self._shapes.get(name)
        if numbers is None or shape is None or None in shape:
            return None
        return np.array(numbers, object).reshape([size or 0 for size in shape])

    def _hold(self, name: str, constant: Tensor) -> None:
        self._shapes[name] = constant.shape
        if constant.dtype in ("int32", "int64") and constant.size <= MOST_FOLLOWED:
            values = constant.values()
            self._numbers[name] = tuple(int(value) for value in (() if values is None else values))

    def _follow(self, node: Node, told: dict[str, Shape | None]) -> None:
        if node.operator == "Constant" and isinstance(node.attributes.get("value"), Tensor):
            self._hold(node.outputs[0], node.attributes["value"])
            return
        made: list[Shape | None]
        try:
            made = _made(node, self)
            values = values_of(node, self)
        # Of nodes that contradict themselves, which only running them refuses.
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            made, values = [], None
        for place, name in enumerate(node.outputs):
            found = made[place] if place < len(made) else None
            shape = found if found is not None else told.get(name)
            if name and shape is not None and len(shape) <= _MOST_AXES and _bounded(shape):
                self._shapes[name] = shape
        if values is not None and node.outputs and len(values) <= MOST_FOLLOWED and _bounded(values):
            self._numbers[node.outputs[0]] = values


def _bounded(values: Numbers) -> bool:
    """Whether they are of 64 bits; what a file makes of them by multiplication has no end."""
    return all(value is None or -_LARGEST <= value <= _LARGEST for value in values)


def shapes_of(model: Model) -> Shapes:
    return Shapes(model)


def _made(node: Node, known: Shapes) -> list[Shape | None]:
    given = [known.of(name) if name else None for name in node.inputs]
    if node.operator in _LIKE_FIRST:
        return [given[0]] * (2 if node.operator == "Dropout" else 1)
    if node.operator in _BROADCAST:
        return [broadcast(given)]
    rule = RULES.get(node.operator)
    if rule is None:
        return []
    found = rule(node, given, known)
    return found if isinstance(found, list) else [found]
