"""``.csv``: UTF-8, rows of one length, no field or row without end.

Which character divides the columns is said with the job, so a table passes when one of them divides its rows
alike. Of a large table the beginning is looked at; the reader meets the rest with the same codes.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tasks.compression.errors import CompressionError

__all__ = ["MAX_COLUMNS", "MAX_FIELD", "check"]

MAX_COLUMNS = 100_000
MAX_FIELD = 1 << 20
_MAX_ROW = 16 << 20
_LOOKED_AT = 64 << 20
_CHUNK = 1 << 20
_DELIMITERS = (",", ";", "\t")
_HINT = "a .csv in UTF-8, all of whose rows have as many values"


def check(path: Path) -> None:
    """CompressionError csv_bad_encoding, csv_too_wide, csv_field_too_large, csv_ragged."""
    csv.field_size_limit(MAX_FIELD)
    with path.open("rb") as file:
        _check_encoding(file)
    faults = []
    for delimiter in _DELIMITERS:
        with path.open("rb") as file:
            width, fault = _width(file, delimiter)
        if fault is None and width > 1:
            return
        if fault is not None:
            faults.append(fault)
    if faults:
        raise faults[0]


def _check_encoding(file: BinaryIO) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    left = _LOOKED_AT
    while left > 0 and (chunk := file.read(_CHUNK)):
        left -= len(chunk)
        try:
            decoder.decode(chunk)
        except UnicodeDecodeError as error:
            raise CompressionError("csv_bad_encoding", "the table is not UTF-8", hint=_HINT) from error
        if b"\0" in chunk:
            raise CompressionError("csv_bad_encoding", "the table has zero bytes: it is no text", hint=_HINT)


def _width(file: BinaryIO, delimiter: str) -> tuple[int, CompressionError | None]:
    """How many columns there are, and what is wrong when they are divided so. What is wrong whatever divides
    them is raised."""
    width = 0
    number = 0
    try:
        for row in csv.reader(_lines(file), delimiter=delimiter):
            if not row:
                continue
            number += 1
            width = width or len(row)
            if len(row) > MAX_COLUMNS:
                raise CompressionError(
                    "csv_too_wide", f"row {number} has {len(row)} columns; {MAX_COLUMNS} may be", hint=_HINT
                )
            if len(row) != width:
                what = f"row {number} has {len(row)} values and not {width}"
                return width, CompressionError("csv_ragged", what, hint=_HINT)
    except csv.Error as error:
        if "field larger" in str(error):
            raise _field_too_large() from error
        return width, CompressionError("csv_ragged", f"row {number + 1}: {error}", hint=_HINT)
    return width, None


def _lines(file: BinaryIO) -> Iterator[str]:
    left = _LOOKED_AT
    while left > 0 and (line := file.readline(_MAX_ROW + 1)):
        left -= len(line)
        if len(line) > _MAX_ROW:
            if line.count(b'"') % 2:
                raise _field_too_large()
            raise CompressionError("csv_too_wide", f"a row has more than {_MAX_ROW} bytes", hint=_HINT)
        yield line.decode("utf-8", "replace")


def _field_too_large() -> CompressionError:
    return CompressionError(
        "csv_field_too_large",
        f"a field has more than {MAX_FIELD} characters",
        hint="a quotation mark that nothing closes makes such a field",
    )
