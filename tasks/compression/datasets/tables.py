"""Tables, batch by batch: the feature columns become samples, the target labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.compression.datasets.classes import Classes, ordering
from tasks.compression.datasets.columns import choose, is_text, nested, numbers, texts
from tasks.compression.datasets.read import Array, Read, Request, fitted_shape, named, nothing_there
from tasks.compression.datasets.samplefile import SampleFile
from tasks.compression.errors import CompressionError
from tasks.compression.remarks import remark

__all__ = ["MAX_COLUMNS", "Batches", "read_table"]

MAX_COLUMNS = 100_000
_LISTED = 100
_NAMED = 10
_EXACT = 2**24  # whole numbers up to here are the same in float32

Batches = Callable[[list[str]], Iterator[pa.RecordBatch]]


def read_table(
    request: Request, names: Sequence[str], batches: Batches, *, parse: bool, details: dict[str, Any]
) -> Read:
    """`batches` yields the columns asked for; `parse` says that numbers are written as text.

    CompressionError column_missing, value_missing, not_finite, dtype_not_allowed, label_out_of_range,
    shape_mismatch, array_too_large, csv_too_wide, too_few_samples.
    """
    if len(names) > MAX_COLUMNS:
        raise CompressionError("csv_too_wide", f"the table has {len(names)} columns; {MAX_COLUMNS} may be")
    features, targets = choose(names, request.reading)
    samples = _Samples(request, features, parse)
    labels = _Labels(request, targets, parse)
    row = 1
    for batch in batches([*features, *targets]):
        samples.take(batch, row)
        labels.take(batch, row)
        row += batch.num_rows
    if samples.file is None:
        raise nothing_there(request.path)
    y, classes = labels.finish()
    details |= {
        "rows": row - 1,
        "column_count": len(features),
        "columns": features[:_LISTED],
        "target": targets,
    }
    if classes is not None:
        details["class_order"] = ordering(labels.given, classes)
    return Read(named(samples.file, y), classes, details)


class _Samples:
    def __init__(self, request: Request, features: Sequence[str], parse: bool) -> None:
        self._request = request
        self._features = features
        self._parse = parse
        self._rounded: str | None = None
        self.file: SampleFile | None = None

    def take(self, batch: pa.RecordBatch, row: int) -> None:
        if not batch.num_rows:
            return
        values = self._values(batch, row)
        if self.file is None:
            _check_count(values.shape[1:], self._features, self._request)
            shape = fitted_shape(values.shape[1:], self._request.shape)
            self.file = SampleFile(self._request.scratch / "x.bin", shape)
            self._given = values.shape[1:]
        if values.shape[1:] != self._given:
            raise CompressionError("shape_mismatch", f"the lists of row {row} are as long as none before")
        self.file.append(values.reshape(len(values), *self.file.shape))

    def _values(self, batch: pa.RecordBatch, row: int) -> Array:
        if len(self._features) == 1:
            lists = nested(batch.column(self._features[0]), self._features[0], row)
            if lists is not None:
                return self._narrow(lists, self._features[0], row)
        columns = [
            self._narrow(numbers(batch.column(name), name, row, parse=self._parse), name, row)
            for name in self._features
        ]
        return np.stack(columns, axis=1)

    def _narrow(self, values: Array, name: str, row: int) -> Array:
        with np.errstate(over="ignore"):
            narrow = values.astype(np.float32)
        good = np.isfinite(narrow).reshape(len(values), -1).all(axis=1)
        if not good.all():
            raise CompressionError(
                "not_finite",
                f"row {row + int(good.argmin())}, column {name!r}: too large a value for float32",
            )
        if self._rounded is None and _rounded(values, narrow):
            self._rounded = name
            self._request.warn(remark("values_rounded", column=name))
        return narrow


def _check_count(given: tuple[int, ...], features: Sequence[str], request: Request) -> None:
    """That there are as many values as the model takes, where it says how many."""
    wanted = [size for size in request.shape if size is not None]
    if len(wanted) < len(request.shape) or math.prod(wanted) == math.prod(given):
        return
    names = ", ".join(features[:_NAMED]) + (", …" if len(features) > _NAMED else "")
    raise CompressionError(
        "shape_mismatch",
        f"the columns {names} make {math.prod(given)} values, and the model takes {math.prod(wanted)}",
        hint="name the target in data.target, and in data.features what is a sample"
        if not request.reading.targets
        else "name in data.features the columns that make a sample",
        pointer="/data/features" if request.reading.targets else "/data/target",
    )


def _rounded(values: Array, narrow: Array) -> bool:
    return bool(((np.abs(values) > _EXACT) & (values == np.floor(values)) & (narrow != values)).any())


class _Labels:
    """Whether a target is numbers or names is decided by its type, or for text by the first batch."""

    def __init__(self, request: Request, targets: Sequence[str], parse: bool) -> None:
        wanted = request.reading.classes
        self.given = wanted if isinstance(wanted, tuple) else None
        self._targets = targets
        self._parse = parse
        self._classes = Classes(self.given) if wanted is not None and targets else None
        self._parts: list[Array] = []

    def take(self, batch: pa.RecordBatch, row: int) -> None:
        if not self._targets or not batch.num_rows:
            return
        if not self._parts and self._classes is None and self._names(batch, row):
            self._classes = Classes(None)
        if self._classes is None:
            columns = [self._numbers(batch.column(name), name, row) for name in self._targets]
            self._parts.append(np.stack(columns, axis=1))
            return
        name = self._targets[0]
        where = f"row {{}}, column {name!r}"
        self._parts.append(
            np.array(
                [
                    self._classes.number(text, where.format(row + offset))
                    for offset, text in enumerate(texts(batch.column(name), name, row))
                ],
                dtype=np.int64,
            )
        )

    def _names(self, batch: pa.RecordBatch, row: int) -> bool:
        """Whether the only target of the first batch names classes."""
        if len(self._targets) > 1 or not is_text(batch.column(self._targets[0]).type):
            return False
        if not self._parse:
            return True
        try:
            numbers(batch.column(self._targets[0]), self._targets[0], row, parse=True)
        except CompressionError as error:
            return error.code == "dtype_not_allowed"
        return False

    def _numbers(self, column: pa.Array, name: str, row: int) -> Array:
        try:
            return numbers(column, name, row, parse=self._parse)
        except CompressionError as error:
            if error.code != "dtype_not_allowed":
                raise
            raise CompressionError(
                error.code,
                f"{error.detail}, as the labels before it are",
                hint="with data.classes the labels are taken for names",
                pointer="/data/target",
            ) from error

    def finish(self) -> tuple[Array | None, list[str] | None]:
        if not self._targets:
            return None, None
        values = np.concatenate(self._parts)
        if self._classes is not None:
            names, place = self._classes.finish()
            return place[values], names
        values = values[:, 0] if len(self._targets) == 1 else values
        whole = bool((values == np.floor(values)).all()) and bool((np.abs(values) < 2**53).all())
        return (values.astype(np.int64) if whole else values), None
