"""A kernel without Landlock, as gVisor's is: for a process and all it starts, its calls do not exist."""

from __future__ import annotations

import ctypes
import errno
import struct

__all__ = ["hide_landlock"]

_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
# (code, to skip if so, to skip if not, value): load the number; 444, 445 and 446 are Landlock's.
_PROGRAM = [
    (_LOAD, 0, 0, 0),
    (_EQUAL, 2, 0, 444),
    (_EQUAL, 1, 0, 445),
    (_EQUAL, 0, 1, 446),
    (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
    (_RETURN, 0, 0, _ALLOW),
]


def hide_landlock() -> None:
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in _PROGRAM))
    header = struct.pack("@HP", len(_PROGRAM), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    if libc.prctl(38, ctypes.c_ulong(1), zero, zero, zero) != 0:
        raise OSError(ctypes.get_errno(), "NO_NEW_PRIVS")
    if libc.prctl(22, ctypes.c_ulong(2), ctypes.c_char_p(header), zero, zero) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")
