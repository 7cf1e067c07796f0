"""Take the outputs of a runner that is dead, believing nothing it says about them.

The runner could plant links, pipes or other people's files under the names it declares. So a name is
opened without following any link and without leaving the folder (openat2), and what is opened must be
a regular file with a single name, of a right owner, not too large, and not one of holes. Size and
sha256 are counted by those who copy it.
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
from typing import BinaryIO

from tasks.sandbox.kernel import syscall

__all__ = ["OutputRefused", "open_output", "read_output"]

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


@contextmanager
def open_output(
    scratch: Path, relative: str, *, max_bytes: int, owner: int | None = None
) -> Iterator[BinaryIO]:
    """The file at `relative` under `scratch`, open for reading; OutputRefused.

    `owner` is who the runner was, None for who we are.
    """
    *folders, name = relative.split("/")
    if not all(_NAME.fullmatch(part) for part in (*folders, name)):
        raise OutputRefused("an output has a name that is not allowed")
    try:
        fd = _open_beneath(scratch, relative)
    except OSError as error:
        raise OutputRefused(f"{name}: {os.strerror(error.errno or 0)}") from error
    with os.fdopen(fd, "rb") as file:
        _check(name, os.fstat(fd), max_bytes, os.geteuid() if owner is None else owner)
        yield file


def read_output(scratch: Path, relative: str, *, max_bytes: int, owner: int | None = None) -> bytes:
    """Its bytes; OutputRefused."""
    with open_output(scratch, relative, max_bytes=max_bytes, owner=owner) as file:
        return file.read(max_bytes)


def _open_beneath(scratch: Path, relative: str) -> int:
    top = os.open(scratch, _FOLDER)
    try:
        how = struct.pack("=3Q", _FILE, 0, _BENEATH | _NO_SYMLINKS | _NO_MAGICLINKS)
        try:
            return syscall(_OPENAT2, top, ctypes.c_char_p(relative.encode()), ctypes.c_char_p(how), len(how))
        except OSError as error:
            # What confines the worker itself may not know the call: the same, step by step.
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                raise
            return _open_by_steps(top, relative.split("/"))
    finally:
        os.close(top)


def _open_by_steps(top: int, parts: list[str]) -> int:
    *folders, name = parts
    here = os.dup(top)
    try:
        for folder in folders:
            below = os.open(folder, _FOLDER, dir_fd=here)
            os.close(here)
            here = below
        return os.open(name, _FILE, dir_fd=here)
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
