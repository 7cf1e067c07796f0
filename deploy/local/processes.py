"""Child processes that end with us, and the free ports they listen on."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["GRPC_OFFSET", "Process", "StartError", "free_port", "keep_port", "wait_until"]

HOST = "127.0.0.1"
GRPC_OFFSET = 10_000
"""SeaweedFS serves gRPC on its HTTP port plus this."""

_LEASH = Path(__file__).with_name("leash.py")
# Below the range the kernel takes outgoing connections' ports from (32768 up), gRPC ports included.
_PORTS = range(12_000, 22_000)
# What keeps each port that was given out from everybody else until this process ends.
_held: dict[int, socket.socket] = {}
_choosing = threading.Lock()
# Not the generator of `random` itself: processes that set its seed, as training does, would all try the same
# ports in the same order.
_chance = random.Random()  # noqa: S311 - nothing is a secret here


class StartError(RuntimeError):
    """A part of the stack did not start. The message holds the end of its log."""


class Process:
    """A running command in a session of its own, its output in `log`.

    It is killed when the *thread* that made it dies, which is what the kernel's parent death
    signal goes by: make processes in a thread that lives as long as they should.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._told = False
        log.parent.mkdir(parents=True, exist_ok=True)
        leashed = [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid()), *map(str, command)]
        with log.open("ab") as output:
            self._popen = subprocess.Popen(  # noqa: S603 - the commands are our own
                leashed,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if environment is None else dict(environment),
                cwd=directory,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs, minus the signal's number when a signal ended it."""
        return self._popen.poll()

    def check(self) -> None:
        """Raise StartError when the process has ended."""
        if self.exit_code is not None:
            raise StartError(f"{self.name} ended with exit code {self.exit_code}\n{self.log_tail()}")

    def log_tail(self, lines: int = 20) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for its end; its exit code. subprocess.TimeoutExpired after `timeout_s`."""
        return self._popen.wait(timeout_s)

    def terminate(self) -> None:
        """Ask it to end (SIGTERM), once however often this is called: some take a second time as an order
        to drop everything."""
        if self.exit_code is None and not self._told:
            self._told = True
            self._popen.terminate()

    def stop(self, timeout_s: float = 10.0) -> int:
        """Ask it to end (SIGTERM), insist after `timeout_s` (SIGKILL); its exit code."""
        if self.exit_code is None:
            self.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(timeout_s)
        return self.kill()

    def kill(self) -> int:
        """SIGKILL the process and what is left of its process group; its exit code."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return self._popen.wait()


def free_port(*, with_grpc: bool = False) -> int:
    """A free TCP port of 127.0.0.1 that no other caller, of whatever process, is given until this process
    ends. A server that binds as servers do (SO_REUSEADDR), in this process or another, can listen on it, and
    another one after it. `with_grpc`: the port GRPC_OFFSET above it is given too. StartError without any.

    A socket that is bound and never listens holds it: the kernel lets go of it however the process ends.
    """
    with _choosing:
        for _ in _PORTS:
            port = _chance.choice(_PORTS)
            wanted = (port, port + GRPC_OFFSET) if with_grpc else (port,)
            if _hold(*wanted):
                return port
    raise StartError("no free port on 127.0.0.1")


def keep_port(port: int) -> None:
    """Have nobody else be given `port`, which was chosen before or elsewhere, until this process ends.
    StartError when somebody listens on it."""
    with _choosing:
        if port in _held:
            return
        holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        # Connections of whoever listened there a moment ago (TIME_WAIT) are no hindrance.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind((HOST, port))
        except OSError:
            holder.close()
            raise StartError(f"port {port} of {HOST} is taken by another program") from None
        _held[port] = holder


def _hold(*ports: int) -> bool:
    """Hold all of `ports`; False, and none is held, when one of them is in use in whatever way."""
    holders = {port: socket.socket(socket.AF_INET, socket.SOCK_STREAM) for port in ports}
    try:
        for port, holder in holders.items():
            # Without SO_REUSEADDR: refused where anybody else is bound, listening or not.
            holder.bind((HOST, port))
            # From now on a server may be bound beside it.
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except OSError:
        for holder in holders.values():
            holder.close()
        return False
    _held.update(holders)
    return True


def wait_until(
    ready: Callable[[], object],
    *,
    what: str,
    process: Process | None = None,
    timeout_s: float = 30.0,
    retry: tuple[type[BaseException], ...] = (OSError,),
) -> None:
    """Call `ready` until it raises none of `retry`. StartError when `process` ends or time is up."""
    deadline = time.monotonic() + timeout_s
    while True:
        if process is not None:
            process.check()
        try:
            ready()
        except retry as error:
            if time.monotonic() >= deadline:
                log = "" if process is None else "\n" + process.log_tail()
                raise StartError(f"{what} was not ready in {timeout_s:.0f} s: {error}{log}") from error
            time.sleep(0.05)
        else:
            return
