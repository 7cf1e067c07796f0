"""What a worker tries inside its own sandbox before it takes jobs: every access that must be refused.

It runs in a runner, in place of a compression, and is told where the outside is (`Outside`). Whatever
is refused says "blocked", whatever goes through "allowed"; what happens in the outside tells those
that a refusal does not. Tracing the worker comes last: it ends the process.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["MUST_WORK", "RESULT", "TRACED", "Probed", "compress"]

RESULT, TRACED = "probe.json", "traced"
MUST_WORK = frozenset({"write in scratch", "rename in scratch", "socket pair", "thread"})

_PTRACE_SEIZE = 0x4206
_TIMEOUT_S = 2.0


@dataclass
class _Report:
    verdict: str = "unchanged"


@dataclass
class Probed:
    """Looks like the outcome of a compression."""

    report: _Report
    artifacts: tuple[Path, ...]


def compress(model: Path, spec: Mapping[str, Any], *, workdir: Path, threads: int = 0, **_: Any) -> Probed:
    """Write ``{access: "allowed" or "blocked"}`` to ``out/probe.json``, then trace the worker."""
    out = workdir / "out"
    out.mkdir(parents=True, exist_ok=True)
    tried = {name: _outcome(access) for name, access in _accesses(spec, workdir).items()}
    (out / RESULT).write_text(json.dumps(tried))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(_PTRACE_SEIZE, spec["worker"], None, None) == 0:
        (out / TRACED).touch()
    return Probed(_Report(), (out / RESULT,))


def _outcome(access: Callable[[], object]) -> str:
    try:
        access()
    except Exception:  # noqa: BLE001 - however it fails, it has not got through
        return "blocked"
    return "allowed"


def _accesses(outside: Mapping[str, Any], workdir: Path) -> dict[str, Callable[[], object]]:
    secret, folder = Path(outside["secret"]), Path(outside["folder"])
    worker, parent = outside["worker"], os.getppid()
    return {
        "read a file": secret.read_bytes,
        "read a file through /proc": Path(f"/proc/self/root{secret}").read_bytes,
        "list a folder": lambda: os.listdir(folder),
        "write a file": lambda: (folder / "written").write_text("x"),
        "empty a file": lambda: os.truncate(secret, 0),
        "change a file's mode": lambda: _changed_mode(secret),
        "hard link to a file": lambda: os.link(secret, workdir / "link"),
        "symbolic link": lambda: os.symlink(secret, workdir / "symlink"),
        "named pipe": lambda: os.mkfifo(workdir / "pipe"),
        "TCP connection": lambda: socket.create_connection(("127.0.0.1", outside["tcp"]), _TIMEOUT_S),
        "TCP server": lambda: socket.create_server(("127.0.0.1", 0)),
        "UDP": lambda: _send(socket.AF_INET, ("127.0.0.1", outside["udp"])),
        "unix socket": lambda: _send(socket.AF_UNIX, outside["unix"]),
        "abstract unix socket": lambda: _send(socket.AF_UNIX, "\0" + outside["abstract"]),
        "unix socket by a pair": lambda: _send_from_pair(outside["unix"]),
        "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "start a program": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        "become a program": lambda: _become(outside["not_a_program"]),
        "start a process": _fork,
        "parent's environment": Path(f"/proc/{parent}/environ").read_bytes,
        "worker's environment": Path(f"/proc/{worker}/environ").read_bytes,
        "worker's memory": lambda: _read_memory(worker),
        "signal to the parent": lambda: os.kill(parent, 0),
        "signal to the worker": lambda: os.kill(worker, 0),
        "outlive the worker": lambda: _prctl_death_signal(),
        "write in scratch": lambda: (workdir / "here").write_text("x"),
        "rename in scratch": lambda: (workdir / "here").rename(workdir / "out" / "there"),
        "socket pair": socket.socketpair,
        "thread": _thread,
    }


def _changed_mode(path: Path) -> None:
    before = path.stat().st_mode
    os.chmod(path, 0o777)  # noqa: S103 - a file made to be tried
    if path.stat().st_mode == before:
        raise PermissionError


def _send(family: int, address: Any) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", address)


def _send_from_pair(address: str) -> None:
    first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with first, second:
        first.sendto(b"x", address)


def _become(path: str) -> None:
    """Not a program, so that nothing happens where it may be tried: then the answer is another."""
    try:
        os.execv(path, [path])  # noqa: S606 - it is to be refused
    except PermissionError:
        raise
    except OSError:
        return


def _fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _read_memory(pid: int) -> None:
    mapped = Path(f"/proc/{pid}/maps").read_text().splitlines()[0]
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(int(mapped.partition("-")[0], 16))
        memory.read(16)


def _prctl_death_signal() -> None:
    """Asks for the signal that it has been set to get: no change where it may be tried."""
    if ctypes.CDLL(None).prctl(1, 9, 0, 0, 0) != 0:
        raise PermissionError


def _thread() -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
