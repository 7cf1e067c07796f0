"""Reads ``.csv`` files: UTF-8, divided by commas, semicolons or tabs, with a header or without."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv

from featherweight.data import CsvReading
from tasks.compression.datasets.read import Read, Request, nothing_there
from tasks.compression.datasets.tables import read_table
from tasks.compression.errors import CompressionError

__all__ = ["read_csv"]

_HEAD = 1 << 20
_BLOCK = 16 << 20
_LOOKED_AT = 20  # rows that the delimiter is told by
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab"}


@dataclass(frozen=True)
class _Form:
    names: list[str]
    delimiter: str
    header: bool


def read_csv(request: Request) -> Read:
    """Every column is text until it is used: numbers are read from it, or the names of classes.

    CompressionError bad_data for a file that is no table, and what tables raises.
    """
    reading = request.reading.csv or CsvReading()
    head = _head(request)
    form = _form(head, reading)
    details = {"delimiter": _NAMES[form.delimiter], "header": form.header}
    try:
        return read_table(
            request, form.names, lambda wanted: _batches(request, form, wanted), parse=True, details=details
        )
    except pa.ArrowInvalid as error:
        raise CompressionError(
            "bad_data",
            f"the table cannot be read: {str(error).splitlines()[0][:200]}",
            hint="a .csv in UTF-8, all of whose rows have as many values",
        ) from error


def _head(request: Request) -> str:
    with request.path.open("rb") as file:
        raw = file.read(_HEAD)
    if not raw.strip():
        raise nothing_there(request.path)
    whole = len(raw) < _HEAD
    try:
        return raw.decode("utf-8-sig") if whole else raw[: raw.rindex(b"\n") + 1].decode("utf-8-sig")
    except ValueError as error:  # of which a fault of the encoding is one
        if not whole and b"\n" not in raw:
            raise CompressionError(
                "csv_too_wide", f"the table has a row longer than {_HEAD} bytes"
            ) from error
        raise CompressionError("csv_bad_encoding", "the table is not UTF-8") from error


def _form(head: str, reading: CsvReading) -> _Form:
    candidates = list(_NAMES) if reading.delimiter == "auto" else [reading.delimiter]
    found = {delimiter: _rows(head, delimiter) for delimiter in candidates}
    delimiter = max(found, key=lambda each: _evenness(found[each]))
    rows = found[delimiter]
    if not rows:
        raise CompressionError("bad_data", "the table has no row that can be read")
    header = _has_header(rows) if reading.header == "auto" else reading.header
    names = [name.strip() for name in rows[0]] if header else [str(place) for place in range(len(rows[0]))]
    return _Form(names, delimiter, header)


def _rows(head: str, delimiter: str) -> list[list[str]]:
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(head, newline=""), delimiter=delimiter, strict=True):
            if row:
                rows.append(row)
            if len(rows) == _LOOKED_AT:
                break
    except csv.Error:
        return rows[:-1]
    return rows


def _evenness(rows: list[list[str]]) -> tuple[bool, int]:
    """Delimiters that divide every row alike come first, and of those the one that makes most columns."""
    widths = {len(row) for row in rows}
    return len(widths) == 1 and widths != {1}, max(widths, default=0)


def _has_header(rows: list[list[str]]) -> bool:
    first = [_is_number(cell) for cell in rows[0]]
    if len(rows) < 2:
        return not any(first)
    if all(first) and len(first) > 1:
        values = [float(cell) for cell in rows[0]]
        if values in ([*map(float, range(len(first)))], [*map(float, range(1, len(first) + 1))]):
            raise CompressionError(
                "bad_data",
                "the first row counts up: it may be names of columns or a sample",
                hint="say data.csv.header: true or false",
                pointer="/data/csv/header",
            )
    second = [_is_number(cell) for cell in rows[1]]
    heads = any(not of_first and of_second for of_first, of_second in zip(first, second, strict=False))
    return heads or not any(first)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _batches(request: Request, form: _Form, wanted: list[str]) -> Iterator[pa.RecordBatch]:
    bad_rows: list[Any] = []

    def refuse(row: Any) -> str:
        bad_rows.append(row)
        return "error"

    try:
        with pyarrow.csv.open_csv(
            request.path,
            pyarrow.csv.ReadOptions(
                use_threads=False,
                block_size=_BLOCK,
                column_names=form.names,
                skip_rows_after_names=1 if form.header else 0,
            ),
            pyarrow.csv.ParseOptions(
                delimiter=form.delimiter, newlines_in_values=True, invalid_row_handler=refuse
            ),
            pyarrow.csv.ConvertOptions(
                include_columns=wanted,
                column_types=dict.fromkeys(wanted, pa.string()),
                strings_can_be_null=False,
            ),
        ) as reader:
            yield from reader
    except pa.ArrowInvalid as error:
        if not bad_rows:
            raise
        row = bad_rows[0]
        place = "a row" if row.number is None else f"row {row.number - form.header}"
        raise CompressionError(
            "csv_ragged",
            f"{place} has {row.actual_columns} values and not {row.expected_columns}: {row.text[:80]!r}",
            hint="data.csv.delimiter says what divides the columns, if it was told wrong",
        ) from error
