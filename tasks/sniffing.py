"""What a file is, by its first bytes alone: never by its name, and without parsing it.

The first member of a zip archive is named in its first bytes, which tells Keras' own archives and
NumPy's from others. Whether a file is whole and sound is found out later, in a sandbox.
"""

from __future__ import annotations

from typing import Literal

from featherweight.resources import Kind
from tasks.compression.datasets import magic

__all__ = ["HEAD_BYTES", "StoredKind", "UnknownFileType", "framework_of", "sniff"]

# Enough for a zip archive's first local header with a name of ordinary length, and for a tar's.
HEAD_BYTES = magic.HEAD_BYTES

# An input file of a batch is told by its first character alone: it is read line by line, and never loaded.
StoredKind = Kind | Literal["batch_file"]

Format = Literal["keras_zip", "hdf5", "tflite", "zip", "npz"] | magic.FileFormat

_ZIP = b"PK\x03\x04"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_TFLITE = b"TFL3"
_BOM = b"\xef\xbb\xbf"
_KERAS_MEMBERS = ("metadata.json", "config.json", "model.weights.h5")

_ACCEPTED: dict[Kind, tuple[str, ...]] = {
    "model": ("keras_zip", "hdf5", "tflite", "zip", "tar", "tar_gz"),
    "dataset": ("npz", "zip", "tar", "tar_gz", "csv", "parquet", "tfrecord", "tfrecord_gz"),
}
_HINTS: dict[Kind, str] = {
    "model": "models are .keras, .h5 and .tflite files, and SavedModels in a zip or tar",
    "dataset": (
        "data sets are .npz, .csv (UTF-8) and .parquet files, zip or tar archives of images, and TFRecord"
    ),
}


class UnknownFileType(Exception):
    """The first bytes are of no format that files of this kind have; `hint` says which ones do."""

    def __init__(self, detail: str, hint: str) -> None:
        super().__init__(detail)
        self.hint = hint


def sniff(kind: StoredKind, head: bytes) -> str:
    """The format of the file that begins with `head`; UnknownFileType when no `kind` has it."""
    if kind == "batch_file":
        return _sniff_lines(head)
    found = _format(head)
    if found is None:
        raise UnknownFileType(f"the first bytes are of no known {_noun(kind)} format", _HINTS[kind])
    if found not in _ACCEPTED[kind]:
        raise UnknownFileType(f"this is {_described(found)}, and no {_noun(kind)}", _HINTS[kind])
    # A zip whose first member has a strange name may still be an npz; the worker opens it and sees.
    return found


def _sniff_lines(head: bytes) -> str:
    if not head.removeprefix(_BOM).lstrip().startswith(b"{"):
        raise UnknownFileType(
            "the first line is no JSON object",
            "an input file of a batch is UTF-8 text with one JSON object on each line",
        )
    return "jsonl"


def framework_of(format_: str) -> str:
    """The framework that models of a format belong to."""
    return dict.fromkeys(_ACCEPTED["model"], "tensorflow")[format_]


def _format(head: bytes) -> Format | None:
    if head.startswith(_HDF5):
        return "hdf5"
    if head[4:8] == _TFLITE:
        return "tflite"
    if head.startswith(_ZIP):
        return _zip_format(head)
    return magic.file_format(head)


def _zip_format(head: bytes) -> Format:
    length = int.from_bytes(head[26:28], "little")
    name = head[30 : 30 + length].decode("utf-8", "replace")
    if name.endswith(".npy"):
        return "npz"
    if name in _KERAS_MEMBERS or name.startswith("assets/"):
        return "keras_zip"
    return "zip"


def _noun(kind: Kind) -> str:
    return "data set" if kind == "dataset" else kind


def _described(found: Format) -> str:
    return {
        "npz": "a NumPy archive",
        "keras_zip": "a Keras model",
        "hdf5": "an HDF5 file",
        "tflite": "a TFLite model",
        "zip": "a zip archive",
        "tar": "a tar archive",
        "tar_gz": "a gzipped tar archive",
        "csv": "text",
        "parquet": "a Parquet file",
        "tfrecord": "a TFRecord file",
        "tfrecord_gz": "a gzipped TFRecord file",
    }[found]
