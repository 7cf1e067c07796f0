"""What a file is, by its first bytes and never by its name."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Literal

from tasks.compression.datasets.magic import HEAD_BYTES, file_format
from tasks.compression.onnx_magic import is_onnx

__all__ = ["ModelFormat", "model_format"]

ModelFormat = Literal["keras_zip", "hdf5", "tflite", "saved_model", "pt2", "onnx", "zip", "unknown"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_TFLITE = b"TFL3"
_PROGRAM_NAME = re.compile(r"[^/]+/models/[^/]+\.json", flags=re.DOTALL)
_GRAPH_NAME = re.compile(r"(?:.*/)?saved_model\.pb(?:txt)?", flags=re.DOTALL)


def model_format(path: Path) -> ModelFormat:
    """keras_zip is a zip archive with a Keras configuration inside, saved_model one with a SavedModel's
    graph, or any tar; pt2 one with an exported program of PyTorch; zip any other archive."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if head.startswith(_HDF5):
        return "hdf5"
    if head[4:8] == _TFLITE:
        return "tflite"
    if head[:4] == _ZIP:
        return _zip_format(path)
    if is_onnx(head):
        return "onnx"
    return "saved_model" if file_format(head) in ("tar", "tar_gz") else "unknown"


def _zip_format(path: Path) -> ModelFormat:
    """keras_zip too for an archive that is cut off: what its directory said can no longer be known."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return "keras_zip"
    if "config.json" in names:
        return "keras_zip"
    if any(map(_PROGRAM_NAME.fullmatch, names)):
        return "pt2"
    return "saved_model" if any(map(_GRAPH_NAME.fullmatch, names)) else "zip"
