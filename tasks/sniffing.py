"""What a file is, by its first bytes alone: never by its name, and without parsing it.

The first member of a zip archive is named in its first bytes, which tells Keras' own archives, NumPy's and
PyTorch's from others. Whether a file is whole and sound is found out later, in a sandbox.
"""

from __future__ import annotations

import re
from typing import Literal

from featherweight.resources import Kind
from tasks.compression.abilities import framework_of
from tasks.compression.datasets import magic
from tasks.compression.onnx_magic import is_onnx

__all__ = ["HEAD_BYTES", "StoredKind", "UnknownFileType", "framework_of", "sniff"]

# Enough for a zip archive's first local header with a name of ordinary length, and for a tar's.
HEAD_BYTES = magic.HEAD_BYTES

# An input file of a batch is told by its first character alone: it is read line by line, and never loaded.
StoredKind = Kind | Literal["batch_file"]

Format = (
    Literal["keras_zip", "hdf5", "tflite", "pt2", "onnx", "checkpoint", "pickle", "safetensors", "zip", "npz"]
    | magic.FileFormat
)

_ZIP = b"PK\x03\x04"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_TFLITE = b"TFL3"
_BOM = b"\xef\xbb\xbf"
# torch.export.save writes everything below one folder, weights first; torch.save begins with its pickle, and
# TorchScript with its tensors.
_PROGRAM_MEMBER = re.compile(
    r"[^/]+/(?:data/(?:weights|constants|sample_inputs)/[^/]+|models/[^/]+\.json|archive_format)"
)
_CHECKPOINT_MEMBER = re.compile(r"[^/]+/(?:(?:data|constants)\.pkl|data/[0-9]+|code/.+\.py)")
_PICKLES = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
# Eight bytes that say how long the JSON after them is, which describes the tensors.
_SAFETENSORS = re.compile(rb".{4}\0{4}\{\s*\"", re.DOTALL)
_KERAS_MEMBERS = ("metadata.json", "config.json", "model.weights.h5")

_ACCEPTED: dict[Kind, tuple[str, ...]] = {
    "model": ("keras_zip", "hdf5", "tflite", "pt2", "onnx", "zip", "tar", "tar_gz"),
    "dataset": ("npz", "zip", "tar", "tar_gz", "csv", "parquet", "tfrecord", "tfrecord_gz"),
}
_WEIGHTS = ("checkpoint", "pickle", "safetensors")
_HINTS: dict[Kind, str] = {
    "model": "models are .keras, .h5, .tflite, .pt2 and .onnx files, and SavedModels in a zip or tar",
    "dataset": (
        "data sets are .npz, .csv (UTF-8) and .parquet files, zip or tar archives of images, and TFRecord"
    ),
}


_EXPORT_HINT = (
    "such a file has weights alone, or Python code: load it where the model's class is, and save the model "
    "as an exported program with featherweight.torch.save(model, example_inputs, 'model.pt2')"
)


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
    if kind == "dataset" and found in ("pt2", "checkpoint"):
        # Folders of images may have any name.
        found = "zip"
    if found is None:
        raise UnknownFileType(f"the first bytes are of no known {_noun(kind)} format", _HINTS[kind])
    if found not in _ACCEPTED[kind]:
        hint = _EXPORT_HINT if kind == "model" and found in _WEIGHTS else _HINTS[kind]
        raise UnknownFileType(f"this is {_described(found)}, and no {_noun(kind)} that can be taken", hint)
    # A zip whose first member has a strange name may still be an npz; the worker opens it and sees.
    return found


def _sniff_lines(head: bytes) -> str:
    if not head.removeprefix(_BOM).lstrip().startswith(b"{"):
        raise UnknownFileType(
            "the first line is no JSON object",
            "an input file of a batch is UTF-8 text with one JSON object on each line",
        )
    return "jsonl"


def _format(head: bytes) -> Format | None:
    if head.startswith(_HDF5):
        return "hdf5"
    if head[4:8] == _TFLITE:
        return "tflite"
    if head.startswith(_ZIP):
        return _zip_format(head)
    if head.startswith(_PICKLES):
        return "pickle"
    if _SAFETENSORS.match(head):
        return "safetensors"
    if is_onnx(head):
        return "onnx"
    return magic.file_format(head)


def _zip_format(head: bytes) -> Format:
    length = int.from_bytes(head[26:28], "little")
    name = head[30 : 30 + length].decode("utf-8", "replace")
    if name.endswith(".npy"):
        return "npz"
    if name in _KERAS_MEMBERS or name.startswith("assets/"):
        return "keras_zip"
    if _PROGRAM_MEMBER.fullmatch(name):
        return "pt2"
    return "checkpoint" if _CHECKPOINT_MEMBER.fullmatch(name) else "zip"


def _noun(kind: Kind) -> str:
    return "data set" if kind == "dataset" else kind


def _described(found: Format) -> str:
    return {
        "npz": "a NumPy archive",
        "keras_zip": "a Keras model",
        "hdf5": "an HDF5 file",
        "tflite": "a TFLite model",
        "pt2": "an exported program of PyTorch",
        "onnx": "an ONNX model",
        "checkpoint": "a checkpoint or TorchScript of PyTorch (.pt, .pth)",
        "pickle": "a pickle, as older .pt and .pth files are",
        "safetensors": "a file of tensors (.safetensors)",
        "zip": "a zip archive",
        "tar": "a tar archive",
        "tar_gz": "a gzipped tar archive",
        "csv": "text",
        "parquet": "a Parquet file",
        "tfrecord": "a TFRecord file",
        "tfrecord_gz": "a gzipped TFRecord file",
    }[found]
