"""Who a confined process is: never root with root's powers.

Started as root, jobs run as a user of their own, if that user can read Python, the code and the
folders above them. Where it cannot (a checkout in root's home), they stay user 0 and give up every
capability. Started as anybody else, they stay that.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

from tasks.sandbox.kernel import machine, prctl, syscall

__all__ = ["drop", "is_open_to_all", "take_over"]

_PR_SET_DUMPABLE = 4
_PR_CAP_AMBIENT, _CLEAR_ALL = 47, 4
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3 = 0x20080522


def is_open_to_all(paths: Iterable[Path]) -> bool:
    """Whether any user may read these and go through every folder above; those missing do not count."""
    return all(_is_open(path.resolve()) for path in paths if path.exists())


def take_over(scratch: Path, uid: int) -> None:
    """Give the folder, and those in it, to the user `uid`; nothing is followed. For root alone; OSError."""
    os.chown(scratch, uid, uid, follow_symlinks=False)
    for entry in os.scandir(scratch):
        if entry.is_dir(follow_symlinks=False):
            os.chown(entry.path, uid, uid, follow_symlinks=False)


def drop(uid: int | None) -> None:
    """Give up every capability, and become the user `uid` and its group of the same number; OSError.

    None: stay who you are.
    """
    if uid is not None and os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        # What is below /proc/self would belong to root otherwise.
        prctl(_PR_SET_DUMPABLE, 1)
    prctl(_PR_CAP_AMBIENT, _CLEAR_ALL)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    nothing = struct.pack("=6I", *[0] * 6)
    if machine() in _CAPSET:
        syscall(_CAPSET[machine()], ctypes.c_char_p(header), ctypes.c_char_p(nothing))


def _is_open(path: Path) -> bool:
    wanted = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
    if path.stat().st_mode & wanted != wanted:
        return False
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.parents)
