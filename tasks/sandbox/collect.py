"""Take the outputs of a runner that is dead, believing nothing it says about them.

The runner could plant links, pipes or other people's files under the names it declares. So every
folder on the way is opened without following links, every file must be a regular one with a single
name, and size and sha256 are ours.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["OutputRefused", "open_output", "read_output"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class OutputRefused(ValueError):
    """A file the runner declared is not what it should be; says which and why."""


@contextmanager
def open_output(scratch: Path, relative: str, *, max_bytes: int) -> Iterator[BinaryIO]:
    """The file at `relative` under `scratch`, open for reading; OutputRefused."""
    *folders, name = relative.split("/")
    if not all(_NAME.fullmatch(part) for part in (*folders, name)):
        raise OutputRefused("an output has a name that is not allowed")
    try:
        fd = _open_below(scratch, folders, name)
    except OSError as error:
        raise OutputRefused(f"{name}: {os.strerror(error.errno or 0)}") from error
    with os.fdopen(fd, "rb") as file:
        _check(name, os.fstat(fd), max_bytes)
        yield file


def read_output(scratch: Path, relative: str, *, max_bytes: int) -> bytes:
    """Its bytes; OutputRefused."""
    with open_output(scratch, relative, max_bytes=max_bytes) as file:
        return file.read(max_bytes)


def _open_below(scratch: Path, folders: list[str], name: str) -> int:
    here = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        for folder in folders:
            below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = below
        # O_NONBLOCK: opening a pipe must not wait for somebody at its other end.
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)
    finally:
        os.close(here)


def _check(name: str, found: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OutputRefused(f"{name} is not a regular file")
    if found.st_nlink != 1:
        raise OutputRefused(f"{name} has more than one name")
    if found.st_size > max_bytes:
        raise OutputRefused(f"{name} is larger than {max_bytes} bytes")
