"""Files on the caller's disk: read in slices, written beside their name first and then moved to it."""

from __future__ import annotations

import hashlib
import math
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

__all__ = ["PART_BYTES", "SourceFile", "atomic_writer", "safe_names", "sha256_of"]

CHUNK = 1024 * 1024
PART_BYTES = 16 * 1024 * 1024
# S3 numbers parts up to this.
_MAX_PARTS = 10_000
_MAX_NAME = 200


@dataclass(frozen=True)
class SourceFile:
    """A file about to be sent, as it was when its digests were taken: `sha256` of the whole, `part_sha256` of
    every `part_size` bytes and of what is left after them."""

    path: Path
    size: int
    mtime_ns: int
    sha256: str
    part_size: int
    part_sha256: tuple[str, ...]

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, part_bytes: int = PART_BYTES) -> SourceFile:
        """Read the file once, in parts of `part_bytes`, or larger where these would be too many for S3.

        Raises OSError as open() does and when the file changes its size meanwhile, and ValueError for an
        empty file or a folder.
        """
        path = Path(path)
        if path.is_dir():
            raise ValueError(
                f"{path} is a folder; a single file (such as .keras or .npz) is needed: zip images, or a "
                "SavedModel"
            )
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise ValueError(f"{path} is not a regular file")
            if facts.st_size == 0:
                raise ValueError(f"{path} is empty")
            size = facts.st_size
            part_size = max(part_bytes, math.ceil(size / _MAX_PARTS))
            whole, parts = _digests(file, size, part_size)
        return cls(path, size, facts.st_mtime_ns, whole, part_size, parts)

    def slice(self, offset: int, size: int) -> Iterator[bytes]:
        """The bytes from `offset`, in chunks. Raises OSError when the file has become shorter."""
        with self.path.open("rb") as file:
            file.seek(offset)
            left = size
            while left:
                chunk = file.read(min(CHUNK, left))
                if not chunk:
                    raise OSError(f"{self.path} became shorter while it was being sent")
                left -= len(chunk)
                yield chunk


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return _digest(file)


def _digests(file: BinaryIO, size: int, part_size: int) -> tuple[str, tuple[str, ...]]:
    """sha256 of the whole file and of its parts, both at once: hashing lets go of the interpreter's lock."""
    whole, parts = hashlib.sha256(), []
    with ThreadPoolExecutor(1, thread_name_prefix="featherweight-sha256") as pool:
        for start in range(0, size, part_size):
            part, left = hashlib.sha256(), min(part_size, size - start)
            while left:
                chunk = file.read(min(CHUNK, left))
                if not chunk:
                    raise OSError(f"{file.name} became shorter while it was being read")
                of_whole = pool.submit(whole.update, chunk)
                part.update(chunk)
                of_whole.result()
                left -= len(chunk)
            parts.append(part.hexdigest())
    if file.read(1):
        raise OSError(f"{file.name} became longer while it was being read")
    return whole.hexdigest(), tuple(parts)


def _digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def atomic_writer(target: Path) -> Iterator[BinaryIO]:
    """A new file that becomes `target` when the block ends well, and vanishes when it does not.

    It is made in the target's own folder under a name nobody has (O_EXCL), so the last move stays
    in one file system and replaces a symbolic link of that name instead of following it.
    """
    descriptor, name = tempfile.mkstemp(prefix=".featherweight-", suffix=".part", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise


def _umask() -> int:
    # There is no way to read it but to set it.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def safe_names(names: list[str]) -> list[str]:
    """A plain file name for every name the service gave, in order and no two alike.

    A name of ordinary characters stays what it is. Folders, ``..``, control characters and leading
    dots do not survive: whatever the service says, the file lands in the folder asked for.
    """
    taken: set[str] = set()
    return [_first_free(_plain(name), taken) for name in names]


def _plain(name: str) -> str:
    last = re.split(r"[/\\]", name)[-1]
    plain = re.sub(r"[^\w.+=@ -]", "_", last).strip(" ").lstrip(".-")
    return plain[-_MAX_NAME:] or "artifact"


def _first_free(name: str, taken: set[str]) -> str:
    free, count = name, 1
    # Compared without case, as some file systems do.
    while free.casefold() in taken:
        count += 1
        free = f"{count}-{name}"
    taken.add(free.casefold())
    return free
