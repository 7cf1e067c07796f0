"""The head of a record in a TFRecord file: its length, and the checksum of that.

The reader and the gate come by CRC-32C in different ways, so it is given.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import IO

from tasks.compression.datasets.magic import mask
from tasks.compression.errors import CompressionError

__all__ = ["MAX_RECORD_BYTES", "record_length"]

MAX_RECORD_BYTES = 256 << 20
_HEADER = struct.Struct("<QI")


def record_length(file: IO[bytes], number: int, crc32c: Callable[[bytes], int]) -> int | None:
    """The bytes of the record that begins here, the `number`-th; None at the end of the file.

    CompressionError bad_data, array_too_large; EOFError.
    """
    header = file.read(_HEADER.size)
    if not header:
        return None
    if len(header) < _HEADER.size:
        raise EOFError("it is cut off")
    length, checksum = _HEADER.unpack(header)
    if mask(crc32c(header[:8])) != checksum:
        raise CompressionError("bad_data", f"the length of record {number} does not have its checksum")
    if length > MAX_RECORD_BYTES:
        raise CompressionError(
            "array_too_large", f"record {number} has {length} bytes; {MAX_RECORD_BYTES} are the limit"
        )
    return int(length)
