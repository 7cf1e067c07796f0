"""The system calls that Python does not offer, by ctypes; each raises OSError where the kernel refuses."""

from __future__ import annotations

import ctypes
import os
import platform

__all__ = ["machine", "prctl", "syscall"]

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def machine() -> str:
    """The processor's name as the kernel says it: x86_64 or aarch64, or another that has no sandbox."""
    return platform.machine()


def syscall(number: int, *arguments: int | ctypes._SimpleCData[int] | ctypes.c_void_p | object) -> int:
    """The answer of the system call `number`. Integers are passed as 64 bits, which variadic calls need."""
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    answer = int(_libc.syscall(ctypes.c_long(number), *wide))
    if answer == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return answer


def prctl(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    if _libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
