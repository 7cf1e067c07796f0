"""Landlock: the process gives up every file but those named, TCP, and reaching processes outside.

https://docs.kernel.org/userspace-api/landlock.html. What a version (ABI) of it cannot refuse, the system
call filter of ``tasks.sandbox.seccomp`` does:

    ABI  Linux  brings
    1    5.13   files; refuses every rename between two folders, which a job needs: not enough for us
    2    5.19   renames and links between folders
    3    6.2    truncation of files
    4    6.7    TCP bind and connect
    5    6.10   ioctl of devices
    6    6.12   abstract unix sockets and signals to processes outside
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from pathlib import Path

from tasks.sandbox.kernel import prctl, syscall

__all__ = ["LEAST_ABI", "TRUNCATE_ABI", "Unavailable", "abi", "restrict"]

LEAST_ABI = 2
TRUNCATE_ABI = 3
_NEWEST_ABI = 6

# The same on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_LAST_RIGHT = {1: 12, 2: 13, 3: 14, 4: 14, 5: 15, 6: 15}
_TCP = 0b11
_ABSTRACT_UNIX_SOCKET_AND_SIGNAL = 0b11

# Executing, devices, sockets, pipes and symbolic links are nobody's.
_READ = _READ_FILE | _READ_DIR
_CHANGE = _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE
_OF_FILES = _READ_FILE | _WRITE_FILE | _TRUNCATE


class Unavailable(OSError):
    """This kernel cannot confine a process as we need it; says why."""


def abi() -> int:
    """The version the kernel has; Unavailable."""
    try:
        return syscall(_CREATE_RULESET, ctypes.c_void_p(None), 0, _CREATE_RULESET_VERSION)
    except OSError as error:
        why = {
            errno.ENOSYS: "the kernel has no Landlock, or what it runs under hides it",
            errno.EOPNOTSUPP: "Landlock is switched off in this kernel",
        }
        raise Unavailable(error.errno, why.get(error.errno or 0, "Landlock is refused here")) from error


def restrict(readable: Iterable[Path], writable: Iterable[Path], *, at_most: int = _NEWEST_ABI) -> int:
    """Confine the calling thread, and what it starts, for good. Answers the ABI that was used.

    Folders stand for everything beneath them; paths that are not there, or not for us, are left out. Sets
    NO_NEW_PRIVS. `at_most` is the newest ABI to use. Unavailable, OSError.
    """
    version = min(abi(), at_most)
    if version < LEAST_ABI:
        raise Unavailable(
            errno.EOPNOTSUPP, f"Landlock has ABI {version} here; ABI {LEAST_ABI} (Linux 5.19) is the least"
        )
    handled = (1 << (_LAST_RIGHT[version] + 1)) - 1
    ruleset = _ruleset(version, handled)
    try:
        for path in readable:
            _allow(ruleset, path, _READ & handled)
        for path in writable:
            _allow(ruleset, path, (_READ | _CHANGE) & handled)
        prctl(_PR_SET_NO_NEW_PRIVS, 1)
        syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return version


def _ruleset(version: int, handled: int) -> int:
    fields = [handled]
    if version >= 4:
        fields.append(_TCP)
    if version >= 6:
        fields.append(_ABSTRACT_UNIX_SOCKET_AND_SIGNAL)
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    return syscall(_CREATE_RULESET, ctypes.c_char_p(attributes), len(attributes), 0)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return
    try:
        if not path.is_dir():
            rights &= _OF_FILES
        rule = struct.pack("=Qi", rights, fd)
        syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.c_char_p(rule), 0)
    finally:
        os.close(fd)
