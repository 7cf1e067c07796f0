"""TFRecord files: every length has its checksum and its bytes."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import IO, cast

from tasks.compression.datasets.archives import Bounds
from tasks.compression.datasets.magic import head_crc32c
from tasks.compression.datasets.recordlength import record_length
from tasks.compression.errors import CompressionError

__all__ = ["check", "check_packed"]

_FOOTER_BYTES = 4
_CHUNK = 1 << 20
# The reader compares the checksum of every record; here the lengths of the first ones tell a damaged file.
_LOOKED_AT = 20_000


def check(path: Path) -> None:
    """CompressionError bad_data, array_too_large; archive_bomb for a gzipped one that unpacks to far more."""
    _check(path, packed=False)


def check_packed(path: Path) -> None:
    _check(path, packed=True)


def _check(path: Path, *, packed: bool) -> None:
    number, left = 0, Bounds().total(path)
    try:
        with cast(IO[bytes], gzip.open(path) if packed else path.open("rb")) as file:
            while (
                number < _LOOKED_AT and (length := record_length(file, number + 1, head_crc32c)) is not None
            ):
                number += 1
                left -= length
                if packed and left < 0:
                    raise CompressionError("archive_bomb", "the file unpacks to far more than its size")
                _skip(file, length + _FOOTER_BYTES)
    except (EOFError, OSError, zlib.error) as error:
        raise CompressionError(
            "bad_data", f"record {number + 1} cannot be read: {str(error)[:100]}"
        ) from error


def _skip(file: IO[bytes], count: int) -> None:
    """Past what must be there."""
    while count:
        read = len(file.read(min(count, _CHUNK)))
        if not read:
            raise EOFError("it is cut off")
        count -= read
