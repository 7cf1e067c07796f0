"""Reads ``.npz`` files that strangers made: nothing is unpickled, and no array is read before its header
has been judged."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from tasks.compression.datasets.archives import BROKEN, Bounds, checked, damaged
from tasks.compression.errors import CompressionError

__all__ = ["array_names", "read_arrays", "read_shapes"]

MAX_ARRAYS = 64
MAX_DIMENSIONS = 8
MAX_BYTES = 8 << 30
_KINDS = "biuf"  # bool, int, uint, float
_MAX_HEADER = 10_000
_BOUNDS = Bounds(members=MAX_ARRAYS, member_bytes=MAX_BYTES)


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_arrays(
    path: Path, wanted: frozenset[str], *, max_bytes: int = MAX_BYTES
) -> Mapping[str, npt.NDArray[Any]]:
    """The arrays of the file whose names are in `wanted`; others are not read.

    Raises CompressionError: bad_npz for a damaged member, what an archive is refused for, pickled_array,
    dtype_not_allowed, array_too_large where the arrays wanted come to more than `max_bytes` together.
    """
    with _opened(path) as archive:
        return _read_members(archive, wanted, max_bytes)


def array_names(path: Path) -> list[str]:
    """The names of all arrays of the file, of which none is read. CompressionError of the archive."""
    with _opened(path) as archive:
        return list(dict.fromkeys(info.filename.removesuffix(".npy") for info in archive.infolist()))


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            checked(archive, path, _BOUNDS)
            yield archive
    except BROKEN as error:
        raise damaged(error) from error


def read_shapes(path: Path, wanted: Callable[[str], bool]) -> dict[str, tuple[tuple[int, ...], int]]:
    """Shape and size in bytes of the arrays whose names are `wanted`, from their headers alone; errors as of
    `read_arrays`, but for arrays that are too large."""
    with _opened(path) as archive:
        headers = _headers(archive, wanted)
    return {name: (header.shape, header.bytes) for name, (_, header) in headers.items()}


def _headers(
    archive: zipfile.ZipFile, wanted: Callable[[str], bool]
) -> dict[str, tuple[zipfile.ZipInfo, _Header]]:
    found: dict[str, tuple[zipfile.ZipInfo, _Header]] = {}
    members = [(info.filename.removesuffix(".npy"), info) for info in archive.infolist()]
    chosen = [(name, info) for name, info in members if wanted(name)]
    if len({name for name, _ in chosen}) != len(chosen):
        raise CompressionError("bad_npz", "the data set holds an array twice")
    for name, info in chosen:
        found[name] = info, _header(archive, info)
    return found


def _read_members(
    archive: zipfile.ZipFile, wanted: frozenset[str], max_bytes: int
) -> dict[str, npt.NDArray[Any]]:
    headers = _headers(archive, wanted.__contains__)
    total = sum(header.bytes for _, header in headers.values())
    if total > max_bytes:
        raise CompressionError(
            "array_too_large", f"the arrays come to {total} bytes; {max_bytes} are the limit"
        )
    rooms = _rooms({name: header for name, (_, header) in headers.items()})
    return {name: _array(archive, info, header, rooms[name]) for name, (info, header) in headers.items()}


def _rooms(headers: Mapping[str, _Header]) -> dict[str, npt.NDArray[Any]]:
    """A flat array for each: those of a kind, as training and test samples are, lie behind one another, so
    that they are one array without being copied (`samplefile.join`)."""
    kinds: dict[Any, list[str]] = {}
    for name, header in headers.items():
        kinds.setdefault((header.dtype.str, header.shape[1:]), []).append(name)
    rooms: dict[str, npt.NDArray[Any]] = {}
    for names in kinds.values():
        sizes = [math.prod(headers[name].shape) for name in names]
        block = np.empty(sum(sizes), headers[names[0]].dtype)
        ends = np.cumsum(sizes)
        rooms |= {name: block[end - size : end] for name, size, end in zip(names, sizes, ends, strict=True)}
    return rooms


def _header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Header:
    name = info.filename
    with archive.open(info) as member:
        try:
            header = _parse_header(member)
        # NumPy splits a header into tokens where it cannot be read at once.
        except (ValueError, SyntaxError, TokenError, RecursionError, MemoryError) as error:
            raise CompressionError("bad_npz", f"{name} has no valid array header") from error
        offset = member.tell()
    if header.dtype.hasobject:
        raise CompressionError(
            "pickled_array",
            f"{name} holds Python objects, which are never unpickled here",
            hint="convert the array to a number type first: numpy.asarray(x, dtype='float32')",
        )
    if header.dtype.kind not in _KINDS or header.dtype.itemsize > 8:
        raise CompressionError(
            "dtype_not_allowed",
            f"{name} has the type {header.dtype}; bool, int, uint and float can be used",
            hint="make numbers of it before saving: x.astype('float32') of samples, class numbers of labels",
        )
    if header.bytes > MAX_BYTES:
        raise CompressionError(
            "array_too_large", f"{name} claims {header.bytes} bytes; {MAX_BYTES} are the limit"
        )
    if len(header.shape) > MAX_DIMENSIONS or header.bytes != info.file_size - offset:
        raise CompressionError("bad_npz", f"{name} has not as many bytes as its header says")
    return header


def _parse_header(member: IO[bytes]) -> _Header:
    version = npy.read_magic(member)
    if version == (1, 0):
        return _Header(*npy.read_array_header_1_0(member, max_header_size=_MAX_HEADER))
    if version == (2, 0):
        return _Header(*npy.read_array_header_2_0(member, max_header_size=_MAX_HEADER))
    raise ValueError(f"array file version {version}")


def _array(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, header: _Header, array: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    with archive.open(info) as member:
        _parse_header(member)
        _read_into(member, memoryview(array.view(np.uint8)))  # type: ignore[arg-type]
    array = array.reshape(header.shape, order="F" if header.fortran else "C")
    native = array.astype(array.dtype.newbyteorder("="), order="C", copy=False)
    return np.ascontiguousarray(native) if native.ndim else native


def _read_into(member: IO[bytes], buffer: memoryview) -> None:
    position = 0
    while position < len(buffer):
        chunk = member.read(min(1 << 20, len(buffer) - position))
        if not chunk:
            raise EOFError("an array ends too early")
        buffer[position : position + len(chunk)] = chunk
        position += len(chunk)
