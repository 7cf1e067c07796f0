"""Zip and tar archives that strangers made: gone through member by member, never unpacked to disk.

What an archive cannot hold honestly is refused: links, devices, absolute names and ones that lead upwards, a
name twice, encrypted members, archives within, more than a bounded number of members and of bytes.
"""

from __future__ import annotations

import copy
import gzip
import io
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, NoReturn, cast

from tasks.compression.errors import CompressionError

__all__ = [
    "BROKEN",
    "MAX_MEMBERS",
    "MAX_MEMBER_BYTES",
    "Bounds",
    "Member",
    "any_named",
    "checked",
    "damaged",
    "members",
    "name_parts",
    "zip_content",
]

MAX_MEMBERS = 2_000_000
MAX_MEMBER_BYTES = 64 << 20
MAX_RATIO = 200
ALWAYS_BYTES = 16 << 20  # so much may come out of even the smallest archive
_NAME_BYTES = 1024
_HEADERS = 1 << 20  # of a tar, between two members
_END_BYTES = 1024  # zeros, at the end of a tar
_ARCHIVES = (
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"\x1f\x8b\x08",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!\x1a\x07",
    b"BZh",
    b"\xfd7zXZ\0",
)
BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True)
class Bounds:
    """`nested` says that a member may begin as archives do: bytes of weights may by chance."""

    members: int = MAX_MEMBERS
    member_bytes: int = MAX_MEMBER_BYTES
    ratio: int = MAX_RATIO
    always_bytes: int = ALWAYS_BYTES
    nested: bool = False

    def total(self, path: Path) -> int:
        """How many bytes may come out of the archive."""
        return max(self.always_bytes, self.ratio * path.stat().st_size)


@dataclass(frozen=True)
class Member:
    """A file of the archive. `parts` are its name's, directories first."""

    parts: tuple[str, ...]
    content: bytes

    @property
    def name(self) -> str:
        return "/".join(self.parts)


def members(path: Path, bounds: Bounds = Bounds()) -> Iterator[Member]:
    """Every file of the zip or tar archive, plain or gzipped, in the archive's order.

    CompressionError of the codes that begin with ``archive_``, too_many_files; bad_archive for a damaged one.
    """
    with path.open("rb") as file, _told():
        magic = file.read(2)
        file.seek(0)
        yield from (
            _zip(path, bounds) if magic == b"PK" else _tar(file, path, bounds, packed=magic == b"\x1f\x8b")
        )


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BROKEN as error:
        raise damaged(error) from error


def damaged(error: Exception) -> CompressionError:
    return CompressionError(
        "bad_archive", f"the archive cannot be read: {str(error)[:200]}", hint="make it and upload it again"
    )


def _zip(path: Path, bounds: Bounds) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for info in checked(archive, path, bounds):
            yield _member(name_parts(info.filename), zip_content(archive, info), bounds)


def checked(archive: zipfile.ZipFile, path: Path, bounds: Bounds) -> list[zipfile.ZipInfo]:
    """The files of a zip archive, judged by its directory alone. CompressionError as of `members`."""
    infos = archive.infolist()
    _check_count(len(infos), bounds)
    if len({info.filename for info in infos}) != len(infos):
        _refuse("archive_duplicate_member", "two of its members have one name")
    if sum(info.file_size for info in infos) > bounds.total(path):
        _refuse("archive_bomb", f"it unpacks to more than {bounds.ratio} times its own size")
    for info in infos:
        if not info.filename:
            _refuse("archive_path_not_allowed", "one of its members has no name")
        name_parts(info.filename)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.flag_bits & 1:
            _refuse("archive_encrypted", f"{info.filename!r} is encrypted")
        if kind == stat.S_IFLNK:
            _refuse("archive_link_not_allowed", f"{info.filename!r} is a link")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            _refuse("archive_special_file", f"{info.filename!r} is no file")
        _check_member(info.filename, info.file_size, bounds)
        # What deflate cannot shrink grows by five bytes in every 16 KiB.
        if info.compress_size > info.file_size + info.file_size // 1000 + 1024:
            _lies(info.filename)
    return [info for info in infos if not info.is_dir()]


def zip_content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """What a member holds: exactly as many bytes as the directory says, with its checksum."""
    # One more byte is asked for, which zipfile would not look for; then the checksum is ours to compare.
    longer = copy.copy(info)
    longer.file_size, longer.CRC = info.file_size + 1, None  # type: ignore[assignment]
    with archive.open(longer) as member:
        content = member.read(info.file_size + 1)
    if len(content) > info.file_size:
        _lies(info.filename)
    if len(content) < info.file_size or zlib.crc32(content) != info.CRC:
        raise zipfile.BadZipFile(f"{info.filename} does not have its checksum")
    return content


def _lies(name: str) -> NoReturn:
    _refuse("archive_bomb", f"{name!r} holds more than its header says")


def _tar(file: IO[bytes], path: Path, bounds: Bounds, *, packed: bool) -> Iterator[Member]:
    source = cast(IO[bytes], gzip.GzipFile(fileobj=file)) if packed else file
    stream = _Metered(source, bounds.total(path) if packed else path.stat().st_size + _HEADERS)
    with tarfile.open(fileobj=stream, mode="r|", errorlevel=2) as archive:
        count = 0
        while True:
            stream.allow(_HEADERS)
            info = archive.next()
            if info is None:
                _check_end(file, stream, packed=packed)
                return
            archive.members.clear()  # type: ignore[attr-defined]  # else it remembers them all
            count += 1
            _check_count(count, bounds)
            parts = name_parts(info.name)
            if info.isdir():
                continue
            if info.issym() or info.islnk():
                _refuse("archive_link_not_allowed", f"{info.name!r} is a link")
            if not info.isreg() or info.issparse():
                _refuse("archive_special_file", f"{info.name!r} is a device, a pipe or a sparse file")
            _check_member(info.name, info.size, bounds)
            stream.allow(info.size + _HEADERS)
            member = archive.extractfile(info)
            content = b"" if member is None else member.read(info.size + 1)
            if len(content) != info.size:
                raise EOFError(f"{info.name} ends too early")
            yield _member(parts, content, bounds)


def _check_end(file: IO[bytes], stream: _Metered, *, packed: bool) -> None:
    """tarfile takes an archive that was cut off between two members for one that ended there."""
    if packed:
        while stream.read(_HEADERS >> 1):
            stream.allow(_HEADERS)
        return
    file.seek(-_END_BYTES, io.SEEK_END)
    if any(file.read(_END_BYTES)):
        raise EOFError("it is cut off")


class _Metered(io.RawIOBase):
    """Reads no more than `total` bytes of `source`, nor more at once than it was last allowed to: what a
    header declares of itself, tarfile would else believe."""

    def __init__(self, source: IO[bytes], total: int) -> None:
        super().__init__()
        self._source = source
        self._left = total
        self._allowed = _HEADERS  # opening reads the first header already

    def allow(self, count: int) -> None:
        self._allowed = count

    def read(self, size: int = -1, /) -> bytes:
        content = self._source.read(size if 0 <= size <= self._allowed else self._allowed + 1)
        self._allowed -= len(content)
        self._left -= len(content)
        if self._allowed < 0 or self._left < 0:
            _refuse("archive_bomb", "it holds far more than its size says, or headers that are too large")
        return content

    def readable(self) -> bool:
        return True


def name_parts(name: str) -> tuple[str, ...]:
    """A member's name in parts. CompressionError archive_path_not_allowed for one that leads elsewhere."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        _refuse("archive_path_not_allowed", f"{name!r} leads out of the archive")
    if len(name.encode("utf-8", "replace")) > _NAME_BYTES or not name.isprintable():
        _refuse(
            "archive_path_not_allowed",
            f"a name of the archive is too long or cannot be printed: {name[:60]!r}",
        )
    return path.parts


def _member(parts: tuple[str, ...], content: bytes, bounds: Bounds) -> Member:
    member = Member(parts, content)
    if content.startswith(_ARCHIVES) and not bounds.nested:
        _refuse("archive_nested", f"{member.name!r} is an archive itself", "put all files into one archive")
    return member


def _check_count(count: int, bounds: Bounds) -> None:
    if count > bounds.members:
        _refuse("too_many_files", f"it has more than {bounds.members} members")


def _check_member(name: str, size: int, bounds: Bounds) -> None:
    if size > bounds.member_bytes:
        _refuse("archive_bomb", f"{name!r} has {size} bytes; {bounds.member_bytes} are the limit")


def _refuse(code: str, what: str, hint: str | None = None) -> NoReturn:
    raise CompressionError(code, f"the archive is not read: {what}", hint=hint)


def any_named(path: Path, suffix: str) -> bool:
    """Whether a member of the zip archive has a name that ends so; True where they cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(suffix) for name in archive.namelist())
    except BROKEN:
        return True
