"""Sizes and digests of files: bytes as stored, and as ``gzip -9`` and ``zstd -9`` would store them."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

import zstandard

__all__ = ["gzip_size", "sha256", "zstd_size"]

_CHUNK = 1 << 20
_GZIP_WINDOW = 31  # 15 bits of window, plus 16 for a gzip header (with time 0, so that sizes repeat)


def gzip_size(path: Path) -> int:
    """The size of the file compressed by gzip at level 9, in bounded memory."""
    packer = zlib.compressobj(9, zlib.DEFLATED, _GZIP_WINDOW)
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            size += len(packer.compress(chunk))
    return size + len(packer.flush())


def zstd_size(path: Path) -> int:
    """The size of the file compressed by Zstandard at level 9, in bounded memory."""
    packer = zstandard.ZstdCompressor(level=9).compressobj(size=path.stat().st_size)
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            size += len(packer.compress(chunk))
    return size + len(packer.flush())


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
