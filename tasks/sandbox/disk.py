"""How much of the disk a job takes: limits of the kernel are for single files alone."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["DiskUse"]

_BLOCK = 512
# Looking takes at most this share of the time; a folder without much in it is looked at with every call.
_SHARE = 0.05


class DiskUse:
    """Watches a folder: the bytes on disk of all beneath it, and how many files and folders there are."""

    def __init__(
        self, root: Path, *, max_bytes: int, max_files: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._clock = clock
        self._next_look = 0.0

    def excess(self) -> str | None:
        """What there is too much of; None if nothing, or not looked again yet."""
        began = self._clock()
        if began < self._next_look:
            return None
        found = self._look()
        self._next_look = began + (self._clock() - began) / _SHARE
        return found

    def _look(self) -> str | None:
        used = files = 0
        folders = [str(self._root)]
        while folders:
            try:
                entries = os.scandir(folders.pop())
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR):
                    continue
                # Too deep, or closed to us: what cannot be looked into may hold anything.
                return f"a folder that cannot be looked into ({os.strerror(error.errno or 0)})"
            with entries:
                for entry in entries:
                    files += 1
                    try:
                        used += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
                    except FileNotFoundError:
                        continue
                    except OSError as error:
                        return f"a file that cannot be looked at ({os.strerror(error.errno or 0)})"
                    if used > self._max_bytes:
                        return f"more than {self._max_bytes} bytes"
                    if files > self._max_files:
                        return f"more than {self._max_files} files"
        return None
