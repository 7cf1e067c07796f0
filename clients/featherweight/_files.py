"""Files on the caller's disk: read in slices, written beside their name first and then moved to it."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

__all__ = ["SourceFile", "atomic_writer", "safe_names", "sha256_of"]

CHUNK = 1024 * 1024
_MAX_NAME = 200


@dataclass(frozen=True)
class SourceFile:
    """A file about to be sent, as it was when its digest was taken."""

    path: Path
    size: int
    mtime_ns: int
    sha256: str

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> SourceFile:
        """Raises OSError as open() does, and ValueError for an empty file or a folder."""
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
            digest = _digest(file)
        return cls(path, facts.st_size, facts.st_mtime_ns, digest)

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
