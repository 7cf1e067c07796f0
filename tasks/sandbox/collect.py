"""Take what a runner has written, believing nothing it says about it.

The runner could plant links, pipes or other people's files under the names it declares. So a name is
opened without following any link and without leaving the folder (openat2), and what is opened must be
a regular file with a single name, of a right owner, not too large, and not one of holes. Size and
sha256 are counted by those who copy it. Of a runner that is still alive, what is read may change meanwhile.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tasks.sandbox.kernel import syscall

__all__ = ["FileEntry", "OutputRefused", "list_outputs", "open_output", "read_output"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_OPENAT2 = 437
_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x02, 0x04, 0x08
# O_NONBLOCK: opening a pipe must not wait for somebody at its other end.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 512
# Above this, a file with less than a hundredth of its bytes on disk is one of holes.
_MAY_BE_HOLES = 1 << 20


class OutputRefused(ValueError):
    """A file the runner declared is not what it should be; says which and why."""


class FileEntry(NamedTuple):
    """A regular file by its path. `state` is another once it was replaced or written to."""

    path: str
    bytes: int
    state: tuple[int, ...]


@contextmanager
def open_output(
    scratch: Path, relative: str, *, max_bytes: int, owner: int | None = None
) -> Iterator[BinaryIO]:
    """The file at `relative` under `scratch`, open for reading; OutputRefused.

    `owner` is who the runner was, None for who we are.
    """
    name = _checked(relative)
    try:
        fd = _open_beneath(scratch, relative, _FILE)
    except OSError as error:
        raise OutputRefused(f"{name}: {os.strerror(error.errno or 0)}") from error
    with os.fdopen(fd, "rb") as file:
        _check(name, os.fstat(fd), max_bytes, os.geteuid() if owner is None else owner)
        yield file


def read_output(scratch: Path, relative: str, *, max_bytes: int, owner: int | None = None) -> bytes:
    """Its bytes; OutputRefused."""
    with open_output(scratch, relative, max_bytes=max_bytes, owner=owner) as file:
        return file.read(max_bytes)


def list_outputs(scratch: Path, relative: str, *, max_files: int) -> list[FileEntry]:
    """The files beneath the folder `relative` of `scratch`, in folders of it too; none where it is missing.

    OutputRefused for anything but files and folders of allowed names, and for more than `max_files` of both.
    """
    found: list[FileEntry] = []
    folders, seen = [relative], 0
    while folders:
        folder = folders.pop()
        name = _checked(folder)
        try:
            fd = _open_beneath(scratch, folder, _FOLDER)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise OutputRefused(f"{name}: {os.strerror(error.errno or 0)}") from error
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    seen += 1
                    if seen > max_files:
                        raise OutputRefused(f"{_checked(relative)} has more than {max_files} files in it")
                    path = f"{folder}/{entry.name}"
                    _checked(path)
                    status = _status(entry)
                    if status is None:
                        continue
                    if stat.S_ISDIR(status.st_mode):
                        folders.append(path)
                    elif stat.S_ISREG(status.st_mode):
                        state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
                        found.append(FileEntry(path, status.st_size, state))
                    else:
                        raise OutputRefused(f"{entry.name} is not a regular file")
        finally:
            os.close(fd)
    return sorted(found)


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """None when it has gone meanwhile."""
    try:
        return entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None


def _checked(relative: str) -> str:
    """The last part of a path whose parts are all allowed; OutputRefused."""
    parts = relative.split("/")
    if not all(_NAME.fullmatch(part) for part in parts):
        raise OutputRefused("an output has a name that is not allowed")
    return parts[-1]


def _open_beneath(scratch: Path, relative: str, flags: int) -> int:
    top = os.open(scratch, _FOLDER)
    try:
        how = struct.pack("=3Q", flags, 0, _BENEATH | _NO_SYMLINKS | _NO_MAGICLINKS)
        try:
            return syscall(_OPENAT2, top, ctypes.c_char_p(relative.encode()), ctypes.c_char_p(how), len(how))
        except OSError as error:
            # What confines the worker itself may not know the call: the same, step by step.
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                raise
            return _open_by_steps(top, relative.split("/"), flags)
    finally:
        os.close(top)


def _open_by_steps(top: int, parts: list[str], flags: int) -> int:
    *folders, name = parts
    here = os.dup(top)
    try:
        for folder in folders:
            below = os.open(folder, _FOLDER, dir_fd=here)
            os.close(here)
            here = below
        return os.open(name, flags, dir_fd=here)
    finally:
        os.close(here)


def _check(name: str, found: os.stat_result, max_bytes: int, owner: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OutputRefused(f"{name} is not a regular file")
    if found.st_nlink != 1:
        raise OutputRefused(f"{name} has more than one name")
    if found.st_uid != owner:
        raise OutputRefused(f"{name} is somebody else's file")
    if found.st_size > max_bytes:
        raise OutputRefused(f"{name} is larger than {max_bytes} bytes")
    if found.st_size > _MAY_BE_HOLES and found.st_blocks * _BLOCK * 100 < found.st_size:
        raise OutputRefused(f"{name} is made of holes")
