"""Streams of bytes on their way into the storage."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from tasks.storage.errors import TooLarge

__all__ = ["Counted", "in_parts"]


class Counted:
    """An iterable of bytes that knows how much of it passed; TooLarge beyond `max_bytes`."""

    def __init__(self, chunks: Iterable[bytes], max_bytes: int | None) -> None:
        self._chunks = chunks
        self._max_bytes = max_bytes
        self.size = 0
        self.sha256 = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.size += len(chunk)
            if self._max_bytes is not None and self.size > self._max_bytes:
                raise TooLarge(self._max_bytes)
            self.sha256.update(chunk)
            yield chunk


def in_parts(chunks: Iterable[bytes], part_bytes: int) -> Iterator[bytes]:
    """The same bytes cut into parts of `part_bytes`, the last one shorter."""
    gathered: list[bytes | memoryview] = []
    size = 0
    for chunk in chunks:
        rest = memoryview(chunk)
        while size + len(rest) >= part_bytes:
            taken = part_bytes - size
            gathered.append(rest[:taken])
            rest = rest[taken:]
            part, gathered, size = b"".join(gathered), [], 0
            yield part
            del part
        if rest:
            gathered.append(rest)
            size += len(rest)
    if gathered:
        yield b"".join(gathered)
