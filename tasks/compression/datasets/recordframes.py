"""TFRecord files: records one after the other, each with its length and checksums.

uint64 length   uint32 masked CRC-32C of the length   length bytes   uint32 masked CRC-32C of these
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import google_crc32c

from tasks.compression.datasets.archives import Bounds
from tasks.compression.datasets.magic import mask
from tasks.compression.datasets.recordlength import MAX_RECORD_BYTES, record_length
from tasks.compression.errors import CompressionError

__all__ = ["MAX_RECORD_BYTES", "records"]

_FOOTER = struct.Struct("<I")


def records(path: Path, *, packed: bool, bounds: Bounds = Bounds()) -> Iterator[bytes]:  # noqa: B008 - it is frozen
    """The records of the file, gzipped if `packed`. CompressionError bad_data for one that is damaged or cut
    off, array_too_large for more than MAX_RECORD_BYTES in one or for a bomb."""
    left = bounds.total(path)
    number = 0
    try:
        with cast(IO[bytes], gzip.open(path) if packed else path.open("rb")) as file:
            while content := _record(file, number + 1):
                number += 1
                left -= len(content[0])
                if packed and left < 0:
                    raise CompressionError(
                        "archive_bomb", f"the file unpacks to more than {bounds.ratio} times its own size"
                    )
                yield content[0]
    except (EOFError, OSError, zlib.error) as error:
        raise CompressionError("bad_data", f"record {number + 1} cannot be read: {error}") from error


def _record(file: IO[bytes], number: int) -> tuple[bytes] | None:
    """A record in a tuple, as one may be empty; None at the end of the file."""
    length = record_length(file, number, google_crc32c.value)
    if length is None:
        return None
    content = file.read(length)
    footer = file.read(_FOOTER.size)
    if len(content) < length or len(footer) < _FOOTER.size:
        raise EOFError("it is cut off")
    if mask(google_crc32c.value(content)) != _FOOTER.unpack(footer)[0]:
        raise CompressionError("bad_data", f"record {number} does not have its checksum")
    return (content,)
