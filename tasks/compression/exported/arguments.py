"""What operators are given and answer with, in a program's JSON."""

from __future__ import annotations

from typing import Any

from tasks.compression.exported.schema import (
    Check,
    bad,
    boolean,
    integer,
    listed,
    nothing,
    number,
    one_of,
    optional,
    record,
    text,
    variable,
)
from tasks.compression.exported.tensors import device, scalar_type

__all__ = ["answer", "argument", "node_input", "tensor"]

tensor = record({"name": variable})
_whole = one_of({"as_name": variable, "as_int": integer})
_real = one_of({"as_name": variable, "as_float": number})
_truth = one_of({"as_name": variable, "as_bool": boolean})
_maybe = one_of({"as_tensor": tensor, "as_none": nothing})


def _layout(value: Any, where: str) -> int:
    if integer(value, where) not in (0, 7):
        bad(where, "is not dense")
    return int(value)


def _memory_format(value: Any, where: str) -> int:
    if integer(value, where) not in range(5):
        bad(where, "is no order of axes in memory")
    return int(value)


_KINDS: dict[str, Check] = {
    "as_none": nothing,
    "as_tensor": tensor,
    "as_tensors": listed(tensor, 10_000),
    "as_optional_tensor": _maybe,
    "as_optional_tensors": listed(_maybe, 10_000),
    "as_int": integer,
    "as_ints": listed(integer, 10_000),
    "as_float": number,
    "as_floats": listed(number, 10_000),
    "as_bool": boolean,
    "as_bools": listed(boolean, 10_000),
    "as_string": text,
    "as_sym_int": _whole,
    "as_sym_ints": listed(_whole, 10_000),
    "as_sym_float": _real,
    "as_sym_floats": listed(_real, 10_000),
    "as_sym_bool": _truth,
    "as_sym_bools": listed(_truth, 10_000),
    "as_scalar_type": scalar_type,
    "as_memory_format": _memory_format,
    "as_layout": _layout,
    "as_device": device,
}
argument = one_of(_KINDS)
"""Neither programs within the program nor objects of the caller's classes are on the list."""
answer = one_of(
    {
        name: _KINDS[name]
        for name in ("as_none", "as_tensor", "as_tensors", "as_sym_int", "as_sym_float", "as_sym_bool")
    }
)


def _kind(value: Any, where: str) -> int:
    if integer(value, where) not in (0, 1, 2):
        bad(where, "is no kind of argument")
    return int(value)


node_input = record({"name": variable, "arg": argument, "kind": optional(_kind)}, {"kind": None})
