"""Runs a command that is killed when its parent dies, however the parent dies.

    python -I -S leash.py PARENT_PID COMMAND [ARGUMENT...]

A program of its own and not a ``preexec_fn``: code between fork and exec is unsafe in a process
with threads. It imports nothing of the project, so it costs milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    parent, command = int(arguments[0]), arguments[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    # The parent may have died before the call: then nobody will send the signal.
    if os.getppid() != parent:
        sys.exit(f"the parent {parent} is gone")
    os.execvp(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
