"""Descriptions of tensors: of those a program computes, and of its weights, which have bytes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from tasks.compression.errors import CompressionError
from tasks.compression.exported.expressions import expression
from tasks.compression.exported.schema import (
    bad,
    boolean,
    integer,
    one_of,
    optional,
    record,
)

__all__ = ["FLOAT32", "check_bytes", "check_weight", "described", "device", "scalar_type", "size"]

FLOAT32 = 7
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, FLOAT32: 4, 8: 8, 12: 1, 13: 2}
_OTHER_FLOATS = {6: "float16", 8: "float64", 13: "bfloat16"}
_DENSE = 7


def scalar_type(value: Any, where: str) -> int:
    if integer(value, where) not in _BYTES:
        bad(where, "is of a type that is not taken")
    return int(value)


def device(value: Any, where: str) -> dict[str, Any]:
    """The CPU. CompressionError unsupported_model for any other."""
    kind = value.get("type") if isinstance(value, dict) else None
    if kind != "cpu":
        raise CompressionError(
            "unsupported_model",
            f"{where} of the exported program is on the device {str(kind)[:40]!r}",
            hint="move the model and its example inputs to the CPU before it is exported: model.cpu()",
        )
    return {"type": "cpu", "index": None}


def _hinted(value: Any, where: str) -> dict[str, Any] | None:
    """The value the size had when the program was exported."""
    return None if value is None else one_of({"as_int": integer})(value, where)


size = one_of(
    {"as_int": integer, "as_expr": record({"expr_str": expression, "hint": _hinted}, {"hint": None})}
)


def _sizes(value: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or len(value) > 64:
        bad(where, "is no shape")
    return [size(each, where) for each in value]


def _layout(value: Any, where: str) -> int:
    if integer(value, where) != _DENSE:
        bad(where, "is not dense")
    return _DENSE


described = record(
    {
        "dtype": scalar_type,
        "sizes": _sizes,
        "requires_grad": boolean,
        "device": device,
        "strides": _sizes,
        "storage_offset": size,
        "layout": _layout,
    }
)
_optionally = optional(described)


def check_weight(meta: Any, where: str) -> tuple[dict[str, Any], int]:
    """The description of a weight, and how many bytes it has.

    CompressionError unsupported_model for floats that are not float32; bad_model for weights whose elements
    overlap or leave gaps.
    """
    found = _optionally(meta, where)
    if found is None:
        bad(where, "is not described")
    if found["dtype"] in _OTHER_FLOATS:
        raise CompressionError(
            "unsupported_model",
            f"{where} of the exported program is of the type {_OTHER_FLOATS[found['dtype']]}",
            hint="export a model in float32: model.float()",
        )
    shape, strides = (_numbers(found[name], where) for name in ("sizes", "strides"))
    if found["storage_offset"] != {"as_int": 0} or not _is_dense(shape, strides):
        bad(where, "is a part of another tensor")
    return found, prod(shape) * _BYTES[found["dtype"]]


def _numbers(sizes: Sequence[dict[str, Any]], where: str) -> list[int]:
    numbers = [each.get("as_int", -1) for each in sizes]
    if any(each < 0 or each >= 1 << 40 for each in numbers):
        bad(where, "has a size that is not taken")
    return numbers


def _is_dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether the elements fill their bytes, in whichever order of the axes."""
    if len(shape) != len(strides):
        return False
    if 0 in shape:
        return True
    step = 1
    for stride, count in sorted(
        (stride, count) for stride, count in zip(strides, shape, strict=True) if count > 1
    ):
        if stride != step:
            return False
        step *= count
    return True


def check_bytes(where: str, expected: int, stored: int) -> None:
    if expected != stored:
        bad(where, f"has {stored} bytes where its shape needs {expected}")
