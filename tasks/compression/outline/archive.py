"""Reads ``.keras`` archives: a configuration, metadata and the weights as HDF5."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

from tasks.compression.datasets import archives
from tasks.compression.datasets.archives import checked, zip_content
from tasks.compression.errors import CompressionError
from tasks.compression.outline.bounds import Bounds, too_large

__all__ = ["Archive", "parse_json"]

WEIGHTS = "model.weights.h5"


class Archive:
    """An open ``.keras`` file. Nothing is unpacked but what is asked for, and no more than its bounds."""

    def __init__(self, path: Path, bounds: Bounds) -> None:
        self._zip = zipfile.ZipFile(path)
        self._bounds = bounds
        checked(self._zip, path, archives.Bounds(members=bounds.members, member_bytes=bounds.weight_bytes))

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def json(self, name: str) -> dict[str, Any]:
        return parse_json(self._read(name, self._bounds.json_bytes), name)

    def weights(self) -> io.BytesIO:
        """The HDF5 file inside; CompressionError bad_model without one."""
        if WEIGHTS not in self._zip.namelist():
            raise CompressionError("bad_model", "the model file holds no weights")
        return io.BytesIO(self._read(WEIGHTS, self._bounds.weight_bytes))

    def _read(self, name: str, limit: int) -> bytes:
        info = self._zip.getinfo(name)
        if info.file_size > limit:
            raise too_large(f"a {name} of more than {limit} bytes")
        return zip_content(self._zip, info)


def parse_json(text: str | bytes, name: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise CompressionError(
            "bad_model",
            f"{name} in the model file is no configuration",
            hint="save and upload the whole model again",
        )
    return value
