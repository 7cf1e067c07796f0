"""What a runner gives up before it touches a caller's bytes.

Done here: it dies with the fork server, is the kernel's first choice when memory runs out, lives
under resource limits, can gain no privileges, has an environment made from scratch and no file
descriptors but its own. This is the only place where a runner is confined; what confines it
further (user, files, network, system calls) belongs here too, in the order of `lock_down`.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Limits", "lock_down"]

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38

# Settings of libraries that the fork server was started with and that are read late.
_KEPT = ("TF_", "XLA_", "CUDA_", "NVIDIA_", "OMP_", "MKL_", "OPENBLAS_")


@dataclass(frozen=True)
class Limits:
    """0 means no limit. `file_bytes` bounds any one file, `memory_bytes` the writable private memory
    that a runner takes beyond what it was forked with."""

    memory_bytes: int = 0
    file_bytes: int = 0
    open_files: int = 1024


def lock_down(scratch: Path, limits: Limits, *, parent: int, keep_fds: frozenset[int]) -> None:
    """Confine the calling process for good. `parent` is the pid of the process that forked it.

    OSError when something is refused: then the runner must not go on.
    """
    _close_all_but(keep_fds)
    # After any change of user, which would clear it; and the parent may be gone already.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    with suppress(OSError):
        # Not every container mounts /proc writable; the limits below hold all the same.
        Path("/proc/self/oom_score_adj").write_text("1000")
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, limits.open_files)
    if limits.memory_bytes:
        _limit(resource.RLIMIT_DATA, _data_bytes() + limits.memory_bytes)
    if limits.file_bytes:
        _limit(resource.RLIMIT_FSIZE, limits.file_bytes)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _scrub_environment(scratch)
    os.chdir(scratch)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, value))


def _data_bytes() -> int:
    """What RLIMIT_DATA counts, now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0


def _close_all_but(keep: frozenset[int]) -> None:
    for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
        if fd not in keep:
            # The listing's own descriptor is among them and closed already.
            with suppress(OSError):
                os.close(fd)


def _scrub_environment(scratch: Path) -> None:
    home = str(scratch / "home")
    kept = {name: value for name, value in os.environ.items() if name.startswith(_KEPT)}
    os.environ.clear()
    os.environ.update(
        kept, PATH="/usr/bin:/bin", LANG="C.UTF-8", HOME=home, TMPDIR=home, KERAS_HOME=home, MPLCONFIGDIR=home
    )
