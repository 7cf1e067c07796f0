"""A data set of any format, opened: told by its content, read by the reader of its format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from featherweight.data import DataReading
from featherweight.report import DataSource, ReportWarning
from tasks.compression.datasets.archives import any_named
from tasks.compression.datasets.magic import HEAD_BYTES, file_format
from tasks.compression.datasets.read import Array, Read, Request
from tasks.compression.errors import CompressionError
from tasks.compression.facts import ModelFacts
from tasks.compression.npz import array_names, read_arrays
from tasks.compression.remarks import remark

__all__ = ["OpenDataset", "open_dataset"]

Format = Literal["npz", "csv", "parquet", "image_zip", "image_tar", "tfrecord"]

_READERS: dict[str, tuple[str, dict[str, bool]]] = {
    "csv": ("csv_file:read_csv", {}),
    "parquet": ("parquet_file:read_parquet", {}),
    "zip": ("folders:read_folders", {}),
    "tar": ("folders:read_folders", {}),
    "tar_gz": ("folders:read_folders", {}),
    "tfrecord": ("records:read_records", {"packed": False}),
    "tfrecord_gz": ("records:read_records", {"packed": True}),
}
_CALLED: dict[str, Format] = {
    "csv": "csv",
    "parquet": "parquet",
    "zip": "image_zip",
    "tar": "image_tar",
    "tar_gz": "image_tar",
    "tfrecord": "tfrecord",
    "tfrecord_gz": "tfrecord",
}
_USED: dict[Format, frozenset[str]] = {
    "npz": frozenset(),
    "csv": frozenset({"target", "features", "classes", "csv"}),
    "parquet": frozenset({"target", "features", "classes"}),
    "image_zip": frozenset({"classes", "image"}),
    "image_tar": frozenset({"classes", "image"}),
    "tfrecord": frozenset({"classes", "image", "tfrecord"}),
}


class OpenDataset:
    """`read` gives arrays by name, `source` says afterwards what was read.

    An ``.npz`` is read when it is asked for arrays, and those only; other formats are decoded when they are
    opened, and have the arrays of one input and one output.
    """

    def __init__(self, path: Path, format_: Format, decoded: Read | None) -> None:
        self.path = path
        self.format: Format = format_
        self.decoded = decoded

    def names(self) -> list[str]:
        """Of all arrays, none of which is read for it."""
        return array_names(self.path) if self.decoded is None else list(self.decoded.arrays)

    def read(self, wanted: frozenset[str]) -> Mapping[str, Array]:
        """Those of the arrays `wanted` that there are."""
        if self.decoded is None:
            return read_arrays(self.path, wanted)
        return {name: array for name, array in self.decoded.arrays.items() if name in wanted}

    def source(self, x: Any) -> DataSource:
        """For the report; `x` has all samples of the first input."""
        return DataSource(
            format=self.format,
            x_shape=list(x.shape[1:]),
            x_dtype=str(x.dtype),
            x_bytes=int(x.nbytes),
            classes=None if self.decoded is None else self.decoded.classes,
            details={} if self.decoded is None else self.decoded.details,
        )


def open_dataset(
    path: Path,
    facts: ModelFacts,
    reading: DataReading | None,
    scratch: Path,
    warn: Callable[[ReportWarning], None],
) -> OpenDataset:
    """`path` as `reading` says, decoded into `scratch` where it is no ``.npz``.

    CompressionError bad_data for a file of no known format; shape_mismatch for a model with several inputs,
    which only an ``.npz`` has arrays for; and what the readers raise.
    """
    kind, format_ = _formats(path)
    _remark_on_unused(reading, format_, warn)
    if format_ == "npz":
        return OpenDataset(path, format_, None)
    if len(facts.inputs) != 1:
        raise CompressionError(
            "shape_mismatch",
            f"the model has {len(facts.inputs)} inputs, and a data set of the format {format_} has one",
            hint="send an .npz, whose arrays go by the inputs' names",
        )
    module, _, name = _READERS[kind][0].partition(":")
    reader: Callable[..., Read] = getattr(import_module(f"tasks.compression.datasets.{module}"), name)
    request = Request(path, facts.inputs[0], reading or DataReading(), scratch, warn)
    return OpenDataset(path, format_, reader(request, **_READERS[kind][1]))


def _formats(path: Path) -> tuple[str, Format]:
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    kind = file_format(head)
    if kind is None:
        raise CompressionError(
            "bad_data",
            "the data set is of no format that is known here",
            hint=".npz, .csv (UTF-8), .parquet, TFRecord, and zip or tar archives of images can be read",
        )
    if kind == "zip" and any_named(path, ".npy"):
        return kind, "npz"
    return kind, _CALLED[kind]


def _remark_on_unused(
    reading: DataReading | None, format_: Format, warn: Callable[[ReportWarning], None]
) -> None:
    given = reading.model_fields_set if reading is not None else set()
    for part in sorted(given - _USED[format_]):
        if getattr(reading, part) is not None:
            warn(remark("data_option_unused", part=part, format=format_))
