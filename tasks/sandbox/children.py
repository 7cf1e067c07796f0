"""The worker's side of the fork server: start it, ask for runners, signal them, hear how they end."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.sandbox.lockdown import DEFAULT, Limits, Sandbox

__all__ = ["Child", "Exit", "RunnerLost", "Runners"]

_ROOT = Path(__file__).parents[2]
# Settings of libraries that operators may choose; nothing else of our environment is handed on.
_PASSED_ON = ("TF_", "XLA_", "CUDA_", "NVIDIA_", "OMP_", "MKL_")
_LIBRARIES = {
    # A thread pool made while importing would not survive the fork.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


class RunnerLost(Exception):
    """The runner could not be started, or died with the fork server."""


@dataclass(frozen=True)
class Exit:
    """`status` as waitpid gives it."""

    status: int
    max_rss_bytes: int
    cpu_s: float

    @property
    def code(self) -> int:
        """Exit code, or the negative number of the signal that killed it."""
        return os.waitstatus_to_exitcode(self.status)


class Child:
    """A runner. `events`, `output` and `status` are the reading ends of its pipes."""

    def __init__(self, runners: Runners, events: int, output: int, status: int) -> None:
        self._runners = runners
        self.events = events
        self.output = output
        self.status = status
        self.pid: int | None = None
        self.exit: Exit | None = None
        self._said = b""

    def hear(self) -> bool:
        """Read what `status` has to say; True once the runner is dead. RunnerLost."""
        said = os.read(self.status, 4096)
        if not said:
            raise RunnerLost("the fork server gave no runner, or died with it")
        *lines, self._said = (self._said + said).split(b"\n")
        for line in lines:
            self._take(json.loads(line))
        return self.exit is not None

    def signal(self, number: int) -> None:
        """To the runner and everything it started. Nothing happens when it is dead."""
        if self.pid is not None and self.exit is None:
            self._runners.send({"pid": self.pid, "signal": number})

    def close(self) -> None:
        for fd in (self.events, self.output, self.status):
            os.close(fd)

    def _take(self, message: dict[str, Any]) -> None:
        if "pid" in message:
            self.pid = message["pid"]
        else:
            self.exit = Exit(**message)


class Runners:
    """Starts runners through a fork server, which is started when needed and again when it died.

    `warm` is the function "module:function" that the server calls once, or several of them. Safe to
    use from many threads.
    """

    def __init__(self, warm: str | Sequence[str], home: Path) -> None:
        self._warm = (warm,) if isinstance(warm, str) else tuple(warm)
        self._home = home
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def warm_up(self, warm: Sequence[str] | None = None) -> None:
        """Start the server, without waiting until it is ready; `warm` instead of what was said before."""
        with self._lock:
            self._warm = self._warm if warm is None else tuple(warm)
            self._connected()

    @property
    def server_pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(
        self, scratch: Path, limits: Limits, sandbox: Sandbox = DEFAULT, *, read: Sequence[Path] = ()
    ) -> Child:
        """Fork a runner that does ``scratch/task.json`` and may `read` besides what all may; RunnerLost."""
        pipes = [os.pipe() for _ in range(3)]
        status, events, output = (reading for reading, _ in pipes)
        writing = [end for _, end in pipes]
        try:
            request = {"run": str(scratch), "limits": asdict(limits), "sandbox": asdict(sandbox)}
            self.send({**request, "read": [str(path) for path in read]}, writing)
        except BaseException:
            for fd in (status, events, output):
                os.close(fd)
            raise
        finally:
            for fd in writing:
                os.close(fd)
        return Child(self, events, output, status)

    def send(self, request: dict[str, Any], fds: Sequence[int] = ()) -> None:
        data = [json.dumps(request).encode()]
        with self._lock:
            try:
                socket.send_fds(self._connected(), data, list(fds))
            except OSError as error:
                self._drop()
                raise RunnerLost("the fork server died") from error

    def stop(self) -> None:
        """End the server and with it every runner."""
        with self._lock:
            self._drop()

    def _connected(self) -> socket.socket:
        if self._process is not None and self._process.poll() is not None:
            self._drop()
        if self._control is None:
            self._launch()
        assert self._control is not None
        return self._control

    def _launch(self) -> None:
        self._home.mkdir(parents=True, exist_ok=True)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # -P: the folder we happen to be in is not a place to import from. A session of its own:
            # a Ctrl-C is for the worker, which decides what becomes of the runners.
            self._process = subprocess.Popen(  # noqa: S603 - nothing in it comes from a caller
                [sys.executable, "-P", "-m", "tasks.sandbox.forkserver", *self._warm],
                stdin=theirs.fileno(),
                env=_environment(self._home),
                cwd=self._home,
                start_new_session=True,
            )
        self._control = ours

    def _drop(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(2)
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
        self._control = self._process = None


def _environment(home: Path) -> dict[str, str]:
    passed_on = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
    return {
        **_LIBRARIES,
        **passed_on,
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "TMPDIR": str(home),
        "KERAS_HOME": str(home),
        "PYTHONPATH": os.pathsep.join([str(_ROOT), str(_ROOT / "clients")]),
    }
