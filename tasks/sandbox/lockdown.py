"""What a process gives up before it touches a caller's bytes.

`lock_down` is the only place where a process is confined. In this order, since each step needs what
the next one takes away:

    descriptors    all but its own are closed
    user           started as root: another user, who is given the scratch folder; no capabilities
    parent         it dies when its parent does
    memory         the kernel's first choice when memory runs out
    limits         memory, size of files, open files, processor time, no core dumps
    environment    made from scratch
    privileges     NO_NEW_PRIVS
    Landlock       reads Python, the code and what libraries need; writes its scratch folder alone
    seccomp        no network, no programs, no processes, no signals to others (tasks.sandbox.seccomp)

With ``external`` in place of ``landlock`` the last two are left out: what confines the process then is
the operator's, a pod per job for instance. Where Landlock or the filter is not to be had, `lock_down`
raises, and the process must not go on.

A process of more than one thread is refused: Landlock binds the calling thread alone.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks.sandbox import landlock, seccomp
from tasks.sandbox.identity import drop, is_open_to_all, take_over
from tasks.sandbox.kernel import prctl

__all__ = ["DEFAULT", "STATED_IN", "Limits", "Sandbox", "chosen_user", "code_paths", "lock_down"]

# The variable that tells a confined process what confines it, for the report.
STATED_IN = "FEATHERWEIGHT_SANDBOX"


_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38

_ROOT = Path(__file__).parents[2]
_CODE = ("tasks", "clients")
# What libraries read of the system. Nothing of these is ever a secret.
_SYSTEM = (
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/fonts",
    "/dev/urandom",
    "/dev/random",
    "/dev/zero",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/version",
    "/proc/filesystems",
    "/proc/sys/vm",
    "/proc/sys/kernel/osrelease",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/fs/cgroup",
    "/sys/kernel/mm/transparent_hugepage",
)
_ALSO_WRITABLE = ("/dev/null",)

# Settings of libraries that the process was started with and that are read late.
_KEPT = ("TF_", "XLA_", "CUDA_", "NVIDIA_", "OMP_", "MKL_", "OPENBLAS_")


@dataclass(frozen=True)
class Limits:
    """0 means no limit. `file_bytes` bounds any one file, `memory_bytes` the writable private memory
    that a process takes beyond what it was forked with, `processes` (threads are processes here)
    holds only for a user of its own."""

    memory_bytes: int = 0
    file_bytes: int = 0
    open_files: int = 1024
    cpu_s: int = 0
    processes: int = 0


@dataclass(frozen=True)
class Sandbox:
    """What confines a process. `uid` is who to become when started as root; None is nobody else: see
    `chosen_user`.

    `landlock_abi` is the newest ABI that may be used.
    """

    kind: Literal["landlock", "external"] = "landlock"
    uid: int | None = None
    landlock_abi: int = 6


DEFAULT = Sandbox()


def code_paths() -> list[Path]:
    """Python, its packages and ours: what a confined process reads, and no secret."""
    named = [sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")]
    return [*(_ROOT / name for name in _CODE), *(Path(name) for name in named)]


def chosen_user(uid: int, scratch_root: Path) -> int | None:
    """`uid` where we are root and that user can read what it must and reach the scratch folders, or None."""
    if os.geteuid() != 0:
        return None
    return uid if is_open_to_all([*code_paths(), scratch_root]) else None


def lock_down(
    scratch: Path,
    limits: Limits,
    *,
    parent: int,
    keep_fds: frozenset[int],
    sandbox: Sandbox = DEFAULT,
    read: Sequence[Path] = (),
    writable: bool = True,
) -> None:
    """Confine the calling process for good.

    `parent` is the pid of the process that started it, `keep_fds` what stays open, `read` what it
    may read besides Python, our code and its `scratch` folder, and `writable` whether it may write there.
    OSError when something is refused: then the process must not go on.
    """
    if len(os.listdir("/proc/self/task")) != 1:
        raise RuntimeError("a process of several threads cannot be confined")
    _close_all_but(keep_fds)
    if sandbox.uid is not None and os.geteuid() == 0:
        take_over(scratch, sandbox.uid)
    drop(sandbox.uid)
    # After the change of user, which clears it; and the parent may be gone already.
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    with suppress(OSError):
        # Not every container mounts /proc writable; the limits below hold all the same.
        Path("/proc/self/oom_score_adj").write_text("1000")
    _limit_all(limits)
    _scrub_environment(scratch)
    os.chdir(scratch)
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if sandbox.kind == "external":
        os.environ[STATED_IN] = "external"
        return
    readable = [*code_paths(), *map(Path, _SYSTEM), *read, scratch]
    changeable = [*map(Path, _ALSO_WRITABLE), *([scratch] if writable else [])]
    abi = landlock.restrict(readable, changeable, at_most=sandbox.landlock_abi)
    os.environ[STATED_IN] = f"landlock {abi}, seccomp"
    seccomp.install(truncate=abi >= landlock.TRUNCATE_ABI)


def _limit_all(limits: Limits) -> None:
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, limits.open_files)
    if limits.memory_bytes:
        _limit(resource.RLIMIT_DATA, _data_bytes() + limits.memory_bytes)
    if limits.file_bytes:
        _limit(resource.RLIMIT_FSIZE, limits.file_bytes)
    if limits.cpu_s:
        _limit(resource.RLIMIT_CPU, limits.cpu_s)
    if limits.processes:
        _limit(resource.RLIMIT_NPROC, limits.processes)


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
    # What was found before the process was forked is not for it.
    tempfile.tempdir = None
