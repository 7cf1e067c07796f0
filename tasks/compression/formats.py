"""What a file is, by its first bytes and never by its name."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

__all__ = ["ModelFormat", "model_format"]

ModelFormat = Literal["keras_zip", "hdf5", "tflite", "zip", "unknown"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_TFLITE = b"TFL3"


def model_format(path: Path) -> ModelFormat:
    """keras_zip is a zip archive with a Keras configuration inside; zip any other archive."""
    with path.open("rb") as file:
        head = file.read(8)
    if head == _HDF5:
        return "hdf5"
    if head[4:8] == _TFLITE:
        return "tflite"
    if head[:4] == _ZIP:
        return "keras_zip" if _has_keras_members(path) else "zip"
    return "unknown"


def _has_keras_members(path: Path) -> bool:
    """True too for an archive that is cut off: what its directory said can no longer be known."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "config.json" in archive.namelist()
    except zipfile.BadZipFile:
        return True
