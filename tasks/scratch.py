"""The folders jobs run in, on the worker's own disk.

    <scratch_dir>/<job id>/
        in/      the inputs, fetched anew by each attempt
        home/    HOME and TMPDIR of the runner
        work/    finished steps: kept from one attempt to the next, so that none is run again
        attempt  the number of the last attempt whose runner was at work here
        task.json, result.json

A folder belongs to whoever holds the lock on it. A worker that lost a job while it was frozen still
holds its own: the next attempt on the same machine then works in a folder of another name.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tasks.sandbox.removal import remove_tree

__all__ = ["Scratch", "claimed_scratch", "discard_leftovers", "job_ids"]

_KEPT = "work"
_ATTEMPT = "attempt"
_FRESH = "fresh"
_SUFFIX = "~"


class Scratch:
    """A folder for one attempt. `discard` it once nothing in it will be needed again.

    `left_by` is the attempt that left what is in the working folder, 0 for none. The job that ran here may
    have made another number of it, which costs itself alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.inputs = path / "in"
        self.work = path / _KEPT
        self.left_by = 0

    def prepare(self) -> None:
        """Remove what an earlier attempt left, except its finished steps.

        Nothing of it is followed or reused: the job that ran here may have planted links.
        """
        self.left_by = _number(self.path / _ATTEMPT)
        for entry in os.scandir(self.path):
            if entry.is_dir(follow_symlinks=False):
                if entry.name != _KEPT:
                    remove_tree(Path(entry.path))
            else:
                os.unlink(entry.path)
        self.inputs.mkdir()
        (self.path / "home").mkdir()
        self.work.mkdir(exist_ok=True)
        self.mark(self.left_by)

    def mark(self, attempt: int) -> None:
        """The runner of this attempt is about to work here. For a folder in which none works."""
        (self.path / _ATTEMPT).write_text(str(attempt))
        self.left_by = attempt

    def fresh_work(self) -> Path:
        """An empty folder beside the working folder, to take its place with `replace_work`. OSError."""
        self.forget_fresh()
        (self.path / _FRESH).mkdir()
        return self.path / _FRESH

    def forget_fresh(self) -> None:
        """Remove it, if it is there. OSError."""
        remove_tree(self.path / _FRESH)

    def replace_work(self) -> None:
        """The folder of `fresh_work` is the working folder from now on. OSError."""
        self.mark(0)  # what is there is nobody's until it is complete
        remove_tree(self.work)
        (self.path / _FRESH).rename(self.work)

    def discard(self) -> None:
        with suppress(OSError):
            remove_tree(self.path)


def _number(path: Path) -> int:
    """What stands in a small file that may be anything; 0 when it is no number of an attempt."""
    with suppress(OSError, ValueError):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                text = file.read(10)
                return int(text) if text.isdigit() else 0
    return 0


@contextmanager
def claimed_scratch(root: Path, job_id: str, attempt: int) -> Iterator[Scratch]:
    """The job's folder, locked and prepared; OSError when there is no room."""
    for name in (job_id, f"{job_id}{_SUFFIX}{attempt}"):
        path = root / name
        lock = _lock(path)
        if lock is None:
            continue
        try:
            scratch = Scratch(path)
            scratch.prepare()
            yield scratch
            return
        finally:
            os.close(lock)
    raise BlockingIOError(f"the scratch folders of {job_id} are in use")


def job_ids(root: Path) -> set[str]:
    """Jobs of which there is a folder."""
    with suppress(FileNotFoundError):
        return {
            entry.name.partition(_SUFFIX)[0]
            for entry in os.scandir(root)
            if entry.name.startswith("job_") and entry.is_dir(follow_symlinks=False)
        }
    return set()


def discard_leftovers(root: Path, job_id: str) -> None:
    """Remove those folders of a job that nobody is using."""
    for path in [root / job_id, *root.glob(f"{job_id}{_SUFFIX}*")]:
        if path.is_dir() and (lock := _lock(path)) is not None:
            Scratch(path).discard()
            os.close(lock)


def _lock(path: Path) -> int | None:
    """A descriptor that holds the lock on the folder, made if it is missing; None when it is taken."""
    while True:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # It may have been removed and made again between opening and locking.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), os.stat(path)):
                    return fd
        except BlockingIOError:
            os.close(fd)
            return None
        os.close(fd)
