"""Columns of a table as numbers; a value that is none is told by its row and column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from featherweight.data import DataReading
from tasks.compression.errors import CompressionError

__all__ = ["MISSING", "choose", "is_text", "nested", "numbers", "texts"]

MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "?")
"""How files write that a value is not there."""

_LISTED = 20

# Arrow's own allocator reserves address space by the gigabyte, which a job's memory limit counts.
pa.set_memory_pool(pa.system_memory_pool())
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


def choose(names: Sequence[str], reading: DataReading) -> tuple[list[str], list[str]]:
    """The feature and the target columns. CompressionError column_missing, bad_data."""
    targets = list(reading.targets)
    features = list(reading.features or [name for name in names if name not in targets])
    for part, wanted in (("target", targets), ("features", features)):
        for place, name in enumerate(wanted):
            if name not in names:
                raise _unknown(name, names, _pointer(reading, part, place))
            if names.count(name) > 1:
                raise CompressionError("bad_data", f"the table has more than one column {name!r}")
    if not features:
        raise CompressionError("bad_data", "no column is left to make samples of", pointer="/data/target")
    return features, targets


def numbers(column: pa.Array, name: str, first_row: int, *, parse: bool) -> npt.NDArray[np.float64]:
    """The values as float64. `parse` says that text is to be read as numbers, as a ``.csv`` has nothing else.

    CompressionError value_missing, not_finite, dtype_not_allowed, with row (from 1) and column.
    """
    if is_text(column.type):
        column = _trimmed(column)
    _check_present(column, name, first_row)
    if is_text(column.type) and not parse:
        raise _not_a_number(column[0].as_py(), name, first_row)
    if not is_text(column.type) and not _is_number(column.type):
        raise CompressionError(
            "dtype_not_allowed",
            f"the column {name!r} is of the type {column.type}, and no number",
            hint=f"leave it out: name the others in data.features{'' if parse else ', or convert it'}",
            pointer="/data/features",
        )
    try:
        values = pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        raise _first_bad(column, name, first_row) from None
    bad = ~np.isfinite(values)
    if bad.any():
        row = first_row + int(bad.argmax())
        raise CompressionError(
            "not_finite",
            f"row {row}, column {name!r}: NaN or infinity",
            hint="drop those rows or fill the values in",
        )
    return np.asarray(values, dtype=np.float64)


def texts(column: pa.Array, name: str, first_row: int) -> list[str]:
    """The values as names of classes: whole numbers without a point. CompressionError value_missing."""
    if is_text(column.type):
        column = _trimmed(column)
        _check_present(column, name, first_row)
        return list(column.to_pylist())
    values = numbers(column, name, first_row, parse=False)
    return [str(int(value)) if value.is_integer() else repr(float(value)) for value in values.tolist()]


def nested(column: pa.Array, name: str, first_row: int) -> npt.NDArray[np.float64] | None:
    """A column of lists, all alike, as an array of one axis more for each; None where it is none."""
    shape = [len(column)]
    while any(of(column.type) for of in _LISTS):
        lengths = pc.list_value_length(column)
        if lengths.null_count:
            _check_present(column, name, first_row)
        distinct = pc.unique(lengths).to_pylist()
        if len(distinct) != 1:
            raise CompressionError(
                "shape_mismatch", f"the column {name!r} holds lists of different lengths: {distinct[:5]}"
            )
        shape.append(distinct[0])
        column = column.flatten()
    if len(shape) == 1:
        return None
    return numbers(column, name, first_row, parse=False).reshape(shape)


def is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_number(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    of = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return any(each(kind) for each in of)


def _trimmed(column: pa.Array) -> pa.Array:
    return pc.utf8_trim_whitespace(pc.cast(column, pa.large_string()))


def _check_present(column: pa.Array, name: str, first_row: int) -> None:
    absent = pc.is_null(column)
    if is_text(column.type):
        absent = pc.or_(
            absent, pc.fill_null(pc.is_in(column, value_set=pa.array(MISSING, column.type)), True)
        )
    if not pc.any(absent).as_py():
        return
    row = first_row + int(pc.index(absent, True).as_py())
    raise CompressionError(
        "value_missing",
        f"row {row}, column {name!r}: there is no value",
        hint="drop those rows or fill the values in",
    )


def _first_bad(column: pa.Array, name: str, first_row: int) -> CompressionError:
    for offset, value in enumerate(column):
        try:
            pc.cast(value, pa.float64())
        except pa.ArrowInvalid:
            return _not_a_number(value.as_py(), name, first_row + offset)
    return CompressionError("bad_data", f"the column {name!r} cannot be read as numbers")


def _not_a_number(value: Any, name: str, row: int) -> CompressionError:
    return CompressionError(
        "dtype_not_allowed",
        f"row {row}, column {name!r}: {str(value)[:40]!r} is not a number",
        hint="name the column as data.target, or leave it out: name the others in data.features",
        pointer="/data/features",
    )


def _unknown(name: str, names: Sequence[str], pointer: str) -> CompressionError:
    listed = ", ".join(names[:_LISTED]) + (
        f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    )
    return CompressionError(
        "column_missing", f"there is no column {name!r}", hint=f"the columns are {listed}", pointer=pointer
    )


def _pointer(reading: DataReading, part: str, place: int) -> str:
    if part == "target" and isinstance(reading.target, str):
        return "/data/target"
    return f"/data/{part}/{place}"
