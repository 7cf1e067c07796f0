"""``.npz``: arrays only, judged by their headers."""

from __future__ import annotations

from pathlib import Path

from tasks.compression.errors import CompressionError
from tasks.compression.npz import array_names, read_shapes

__all__ = ["check"]


def check(path: Path) -> None:
    """CompressionError bad_npz, pickled_array, dtype_not_allowed, array_too_large, and of the archive."""
    names = array_names(path)
    sizes = read_shapes(path, lambda _: True)
    if not names or not sizes:
        raise CompressionError("bad_npz", "the file holds no array", hint="write it with numpy.savez")
