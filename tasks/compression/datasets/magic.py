"""What a data set is, by its first bytes and never by its name. Needs the standard library alone."""

from __future__ import annotations

import struct
import zlib
from typing import Literal

__all__ = ["HEAD_BYTES", "FileFormat", "file_format", "head_crc32c", "mask"]

HEAD_BYTES = 512  # as far as a tar archive's first header goes

FileFormat = Literal["zip", "tar", "tar_gz", "parquet", "tfrecord", "tfrecord_gz", "csv"]

_GZIP = b"\x1f\x8b\x08"
_TAR_MAGIC = slice(257, 262)
_POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), its bits reversed
_PLAIN = frozenset(range(32, 127)) | {ord("\t"), ord("\n"), ord("\r")}


def file_format(head: bytes) -> FileFormat | None:
    """The format of the file that begins with `head`, HEAD_BYTES or all of it; None for no known one."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(_GZIP):
        return _gzipped(head)
    if head[_TAR_MAGIC] == b"ustar":
        return "tar"
    if _begins_a_record(head):
        return "tfrecord"
    return "csv" if _is_text(head) else None


def mask(crc: int) -> int:
    """A checksum as TFRecord files hold it, so that one of bytes that hold checksums is of use."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def head_crc32c(content: bytes) -> int:
    """CRC-32C (RFC 3720, appendix B.4), bit by bit: for the few bytes of a head."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _gzipped(head: bytes) -> FileFormat | None:
    try:
        inside = zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES)
    except zlib.error:
        return None
    if inside[_TAR_MAGIC] == b"ustar":
        return "tar_gz"
    return "tfrecord_gz" if _begins_a_record(inside) else None


def _begins_a_record(head: bytes) -> bool:
    """A record begins with its length in eight bytes and their masked checksum: no guess, but a proof."""
    if len(head) < 12:
        return False
    (checksum,) = struct.unpack("<I", head[8:12])
    return mask(head_crc32c(head[:8])) == int(checksum)


def _is_text(head: bytes) -> bool:
    """UTF-8 without control characters; a character that is cut off at the end does not count."""
    text = head.removeprefix(b"\xef\xbb\xbf")
    if not text or any(byte < 128 and byte not in _PLAIN for byte in text):
        return False
    for cut in range(4):
        try:
            text[: len(text) - cut].decode("utf-8")
        except UnicodeDecodeError:
            if len(head) < HEAD_BYTES:
                return False
        else:
            return True
    return False
