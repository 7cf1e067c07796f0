"""The filter of system calls: what is not allowed does not exist.

It is an allow-list. A deny-list would be shorter, and would let through whatever the next kernel
brings; here a call nobody has thought of answers ENOSYS, upon which libraries take the older way.

    allowed      the work of a job: files, memory, threads, time, pipes
    examined     allowed with some arguments: threads but no processes, signals to oneself alone, ...
    pretended    answered as done, without doing it: permissions and owners of files
    refused      EPERM: network, starting programs and processes, other users, times of files
    deadly       SIGSYS: debugging, mounting, namespaces, loading code into the kernel
    the rest     ENOSYS: io_uring, memfd, shared memory, clone3 (upon which glibc uses clone), ...

Rules are of the classic BPF of seccomp(2): compare the number of the call, then perhaps the low
32 bits of an argument, which is all that the kernel looks at in these.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from typing import NamedTuple

from tasks.sandbox.kernel import machine, prctl, syscall
from tasks.sandbox.syscalls import ALLOWED, DEADLY, EXAMINED, PRETENDED, REFUSED, number

__all__ = ["UnknownMachine", "filter_program", "install"]

_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SET_MODE_FILTER, _TSYNC = 1, 1

_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
# x86-64 has every call a second time under these numbers, for programs with 32-bit pointers.
_X32 = 0x40000000

_CLONE_THREAD = 0x00010000
_O_TRUNC, _O_ACCMODE = 0o1000, 0o3
_AF_UNIX, _SOCK_STREAM, _SOCK_TYPE_MASK = 1, 1, 0xF
# F_SETOWN, F_SETSIG, F_SETOWN_EX (signals to others), F_SETLEASE, F_NOTIFY.
_FCNTL_REFUSED = (8, 10, 15, 1024, 1026)
# TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX, FICLONE, FICLONERANGE.
_IOCTL_ALLOWED = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451, 0x40049409, 0x4020940D)
# GET_DUMPABLE, SET_NAME, GET_NAME, CAPBSET_READ, SET_TIMERSLACK, SET_THP_DISABLE, SET_VMA.
# Not SET_PDEATHSIG: a job dies with its worker, whatever it thinks of that.
_PRCTL_ALLOWED = (3, 15, 16, 23, 29, 41, 0x53564D41)


class UnknownMachine(OSError):
    """There is no filter for this processor."""


class _Step(NamedTuple):
    """An instruction: `yes` and `no` are how many to skip."""

    code: int
    value: int
    yes: int = 0
    no: int = 0


def install(*, truncate: bool) -> None:
    """Filter the calls of every thread of this process, and of what it starts, for good. OSError.

    `truncate`: whether truncating a file by its name is for others (Landlock) to judge.
    """
    program = filter_program(machine(), os.getpid(), truncate=truncate)
    count = len(program) // 8
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", count, ctypes.addressof(code))
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if syscall(_SECCOMP[machine()], _SET_MODE_FILTER, _TSYNC, ctypes.c_char_p(header)) != 0:
        raise OSError(errno.EBUSY, "a thread could not be brought under the filter")


def filter_program(architecture: str, pid: int, *, truncate: bool) -> bytes:
    """The filter for the process `pid`, in the machine's byte order; UnknownMachine."""
    if architecture not in _AUDIT_ARCH or sys.byteorder != "little":
        raise UnknownMachine(errno.EOPNOTSUPP, f"there is no system call filter for {architecture}")
    steps = [
        _Step(_LOAD, _ARCH),
        _Step(_EQUAL, _AUDIT_ARCH[architecture], 1, 0),
        _Step(_RETURN, _KILL),
        _Step(_LOAD, _NUMBER),
        _Step(_AT_LEAST, _X32, 0, 1),
        _Step(_RETURN, _KILL),
    ]
    examined = _examined(pid, truncate=truncate)
    for table, answer in (
        (EXAMINED, None),
        (ALLOWED, _ALLOW),
        (PRETENDED, _ERRNO),
        (REFUSED, _ERRNO | errno.EPERM),
        (DEADLY, _KILL),
    ):
        for name in table:
            value = number(table, name, architecture)
            if value is None:
                continue
            body = examined[name] if answer is None or name in examined else [_Step(_RETURN, answer)]
            steps += [_Step(_EQUAL, value, 0, len(body)), *body]
    steps.append(_Step(_RETURN, _ERRNO | errno.ENOSYS))
    return b"".join(struct.pack("=HBBI", step.code, step.yes, step.no, step.value) for step in steps)


def _examined(pid: int, *, truncate: bool) -> dict[str, list[_Step]]:
    rules = {
        "clone": _only_if_masked(0, _CLONE_THREAD, _CLONE_THREAD),
        "fcntl": _unless_one_of(1, _FCNTL_REFUSED),
        "ioctl": _only_one_of(1, _IOCTL_ALLOWED, refusal=errno.ENOTTY),
        "kill": _only_one_of(0, (pid,)),
        "tgkill": _only_one_of(0, (pid,)),
        "prctl": _only_one_of(0, _PRCTL_ALLOWED),
        "prlimit64": _only_one_of(0, (0, pid)),
        "sched_setaffinity": _only_one_of(0, (0, pid)),
        # Only streams: a datagram could be addressed to anybody's socket.
        "socketpair": [
            _load(0),
            _Step(_EQUAL, _AF_UNIX, 1, 0),
            _Step(_RETURN, _ERRNO | errno.EPERM),
            *_only_if_masked(1, _SOCK_TYPE_MASK, _SOCK_STREAM),
        ],
    }
    if not truncate:
        rules["truncate"] = [_Step(_RETURN, _ERRNO | errno.EPERM)]
        # Landlock before ABI 3 takes this for reading.
        rules["open"] = _unless_masked(1, _O_TRUNC | _O_ACCMODE, _O_TRUNC)
        rules["openat"] = _unless_masked(2, _O_TRUNC | _O_ACCMODE, _O_TRUNC)
    return rules


def _load(argument: int) -> _Step:
    return _Step(_LOAD, _ARGUMENTS + 8 * argument)


def _only_one_of(argument: int, values: tuple[int, ...], *, refusal: int = errno.EPERM) -> list[_Step]:
    count = len(values)
    tests = [_Step(_EQUAL, value, count - index, 0) for index, value in enumerate(values)]
    return [_load(argument), *tests, _Step(_RETURN, _ERRNO | refusal), _Step(_RETURN, _ALLOW)]


def _unless_one_of(argument: int, values: tuple[int, ...]) -> list[_Step]:
    count = len(values)
    tests = [_Step(_EQUAL, value, count - index, 0) for index, value in enumerate(values)]
    return [_load(argument), *tests, _Step(_RETURN, _ALLOW), _Step(_RETURN, _ERRNO | errno.EPERM)]


def _only_if_masked(argument: int, mask: int, value: int) -> list[_Step]:
    return [
        _load(argument),
        _Step(_AND, mask),
        _Step(_EQUAL, value, 0, 1),
        _Step(_RETURN, _ALLOW),
        _Step(_RETURN, _ERRNO | errno.EPERM),
    ]


def _unless_masked(argument: int, mask: int, value: int) -> list[_Step]:
    return [
        _load(argument),
        _Step(_AND, mask),
        _Step(_EQUAL, value, 0, 1),
        _Step(_RETURN, _ERRNO | errno.EPERM),
        _Step(_RETURN, _ALLOW),
    ]
