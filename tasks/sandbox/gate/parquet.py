"""``.parquet``: the footer, where the format says everything of itself, lies in the file. What is in it is
for the reader in the job's sandbox."""

from __future__ import annotations

import os
from pathlib import Path

from tasks.compression.errors import CompressionError

__all__ = ["MAX_FOOTER_BYTES", "check"]

MAX_FOOTER_BYTES = 64 << 20
_MAGIC = b"PAR1"
_TAIL = 8  # the footer's length and the magic


def check(path: Path) -> None:
    """CompressionError bad_data for a file that is cut off, encrypted or has no footer of its size."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _TAIL), os.SEEK_SET)
        tail = file.read(_TAIL)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MAGIC or not 0 < length <= size - _TAIL - len(_MAGIC):
        raise CompressionError(
            "bad_data", "the .parquet file is cut off, or encrypted", hint="upload it again"
        )
    if length > MAX_FOOTER_BYTES:
        raise CompressionError("bad_data", f"the footer of the .parquet file has {length} bytes")
