"""Samples written to a file as they are decoded, and read back as one array that need not fit into memory."""

from __future__ import annotations

import errno
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.compression.errors import CompressionError

__all__ = ["MAX_DECODED_BYTES", "MAX_SAMPLES", "SampleFile", "check_size", "join"]

MAX_SAMPLES = 100_000_000
MAX_DECODED_BYTES = 64 << 30
IN_MEMORY_BYTES = 256 << 20
_TOGETHER = 8 << 20  # are written at once

Array = npt.NDArray[Any]


class SampleFile:
    """Grows by what is appended; `path` is written anew and is not kept open. All samples are of one `shape`
    and `dtype`."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> None:
        self.path = path
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.count = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        self._waiting: list[Array] = []
        self._waiting_bytes = 0

    def append(self, samples: Array) -> None:
        """Samples along axis 0. CompressionError array_too_large, also where the disk or a limit ends it."""
        self.count += len(samples)
        check_size(self.count, self.shape, self.dtype)
        self._waiting.append(np.ascontiguousarray(samples, self.dtype))
        self._waiting_bytes += samples.size * self.dtype.itemsize
        if self._waiting_bytes >= _TOGETHER:
            self._write()

    def _write(self) -> None:
        try:
            with self.path.open("ab") as file:
                for part in self._waiting:
                    file.write(part.data)
        except OSError as error:
            raise _no_room(error) from error
        self._waiting.clear()
        self._waiting_bytes = 0

    def extend(self, other: SampleFile) -> None:
        """All samples of `other`, which is used up and deleted."""
        self._write()
        other._write()
        try:
            with other.path.open("rb") as source, self.path.open("ab") as file:
                shutil.copyfileobj(source, file, 1 << 20)
        except OSError as error:
            raise _no_room(error) from error
        self.count += other.count
        other.path.unlink()

    def parts(self, *counts: int) -> list[Array]:
        """The samples in parts of so many each: mapped from the file, read-only, where large."""
        self._write()
        small = self.count * self._sample_bytes <= IN_MEMORY_BYTES
        parts = []
        start = 0
        for count in counts:
            part = self._mapped(start, count) if count else np.empty((0, *self.shape), self.dtype)
            parts.append(np.array(part) if small else part)
            start += count
        return parts

    @property
    def _sample_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def _mapped(self, start: int, count: int) -> Array:
        shape = (count, *self.shape)
        return np.memmap(self.path, self.dtype, mode="r", offset=start * self._sample_bytes, shape=shape)


def check_size(count: int, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> None:
    """CompressionError array_too_large for so many samples of that shape."""
    size = count * math.prod(shape) * np.dtype(dtype).itemsize
    if size > MAX_DECODED_BYTES or count > MAX_SAMPLES:
        raise CompressionError(
            "array_too_large",
            f"the samples come to more than {MAX_DECODED_BYTES} bytes decoded, or to over {MAX_SAMPLES}",
            hint="send a part of the data set",
        )


def join(first: Array, second: Array) -> Array:
    """Both, one after the other: without reading them where they lie so in one mapped file, without copying
    them where they lie so in memory."""
    if isinstance(first, np.memmap) and isinstance(second, np.memmap) and _follows(first, second):
        shape = (len(first) + len(second), *first.shape[1:])
        whole: Array = np.memmap(str(first.filename), first.dtype, mode="r", offset=first.offset, shape=shape)
        return whole
    if (block := _held_by_both(first, second)) is not None:
        shape, offset = (len(first) + len(second), *first.shape[1:]), _address(first) - _address(block)
        return np.ndarray(shape, first.dtype, buffer=block.data, offset=offset)
    return np.concatenate([first, second])


def _held_by_both(first: Array, second: Array) -> Array | None:
    """The array that both are parts of, if they are whole stretches of it with nothing in between."""
    block = first.base
    if not isinstance(block, np.ndarray) or isinstance(block, np.memmap) or second.base is not block:
        return None
    alike = first.dtype == second.dtype == block.dtype and first.shape[1:] == second.shape[1:]
    whole = all(array.flags.c_contiguous for array in (first, second, block))
    return block if alike and whole and _address(first) + first.nbytes == _address(second) else None


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _follows(first: np.memmap[Any, Any], second: np.memmap[Any, Any]) -> bool:
    # A slice of a mapped array keeps the offset of the whole, so only what was mapped itself is looked at.
    whole = not isinstance(first.base, np.ndarray) and not isinstance(second.base, np.ndarray)
    alike = first.dtype == second.dtype and first.shape[1:] == second.shape[1:]
    return (
        whole and alike and first.filename == second.filename and first.offset + first.nbytes == second.offset
    )


def _no_room(error: OSError) -> CompressionError:
    if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        raise error
    return CompressionError(
        "array_too_large",
        "the decoded samples need more room on disk than a job has",
        hint="send a part of the data set, or let images be resized to less",
    )
