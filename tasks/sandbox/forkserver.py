"""The fork server: a process that has imported the framework, has never used it, and forks runners.

Importing TensorFlow takes seconds, forking a process that has it takes milliseconds. *Using* it
before a fork hangs the child, and so can any thread, so this process only imports and stays
single-threaded. It holds no secret and never opens a caller's file.

It is started by ``tasks.sandbox.children`` with one end of a socket as its standard input and ends
when the other end closes, however the worker died, taking its runners along; should it be killed
itself, the kernel kills them (PR_SET_PDEATHSIG).

Requests, a JSON object each:

    {"run": scratch folder, "limits": {...}, "sandbox": {...}, "read": [path, ...]}
                                       with the descriptors status, events, output
    {"signal": number, "pid": pid}     to the whole process group of a runner

On the status pipe of a run: ``{"pid": n}``, later ``{"status": wait status, "max_rss_bytes": n,
"cpu_s": s}``, a line each.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from tasks import runner
from tasks.sandbox.lockdown import Limits, Sandbox, lock_down
from tasks.targets import resolve

__all__ = ["main"]

_REQUEST_BYTES = 64 * 1024
_EVENTS_FD = 3
_CANNOT_START = 70


class ForkServer:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._status_of: dict[int, int] = {}
        # A signal that arrives before select() is entered must still wake it.
        self._woken, wake = socket.socketpair()
        self._woken.setblocking(False)
        wake.setblocking(False)
        self._wake = wake

    def serve(self) -> None:
        """Until the worker's end of the socket closes."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        with selectors.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._woken in ready:
                    with suppress(BlockingIOError):
                        self._woken.recv(4096)
                if self._control in ready and not self._answer():
                    break
                self._reap()
        self._kill_all()

    def _answer(self) -> bool:
        data, fds, _, _ = socket.recv_fds(self._control, _REQUEST_BYTES, 3)
        if not data:
            return False
        request = json.loads(data)
        if "run" in request:
            self._run(request, *fds)
        else:
            self._signal(request["pid"], request["signal"])
        return True

    def _run(self, request: Mapping[str, Any], status: int, events: int, output: int) -> None:
        server = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            # Too many processes, or too little memory: the worker sees the pipes close.
            traceback.print_exc()
            os.close(status)
        else:
            if pid == 0:
                _become_runner(request, server, events, output)
            self._status_of[pid] = status
            if not _say(status, {"pid": pid}):
                # The worker has given the job up while we were still importing.
                _signal_group(pid, signal.SIGKILL)
        finally:
            os.close(events)
            os.close(output)

    def _signal(self, pid: int, number: int) -> None:
        # Only our own unreaped children: their pid cannot have been given to somebody else.
        if pid in self._status_of:
            _signal_group(pid, number)

    def _reap(self) -> None:
        for pid in list(self._status_of):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            # What the runner left behind in its group goes first, as long as the pid is still taken.
            _signal_group(pid, signal.SIGKILL)
            _, wait_status, usage = os.wait4(pid, 0)
            status = self._status_of.pop(pid)
            _say(
                status,
                {
                    "status": wait_status,
                    "max_rss_bytes": usage.ru_maxrss * 1024,
                    "cpu_s": usage.ru_utime + usage.ru_stime,
                },
            )
            os.close(status)

    def _kill_all(self) -> None:
        for pid in self._status_of:
            _signal_group(pid, signal.SIGKILL)


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        # Just forked, and not yet the leader of a group.
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _say(status: int, value: Mapping[str, Any]) -> bool:
    """False when the worker does not listen any more."""
    try:
        os.write(status, json.dumps(value).encode() + b"\n")
    except BrokenPipeError:
        return False
    return True


def _become_runner(request: Mapping[str, Any], server: int, events: int, output: int) -> NoReturn:
    """In the child: never returns into the server's loop, whatever happens."""
    code = _CANNOT_START
    scratch = Path(request["run"])
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        _arrange_descriptors(events, output)
        lock_down(
            scratch,
            Limits(**request["limits"]),
            parent=server,
            keep_fds=frozenset({0, 1, 2, _EVENTS_FD}),
            sandbox=Sandbox(**request["sandbox"]),
            read=[Path(path) for path in request["read"]],
        )
        code = runner.main(scratch, _EVENTS_FD)
    except BaseException:  # noqa: BLE001 - nothing may unwind into the server's code
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        # Not sys.exit: frameworks take their time to tear down, and have nothing left to say.
        os._exit(code)


def _arrange_descriptors(events: int, output: int) -> None:
    """0: nothing, 1 and 2: output, 3: events."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    # Out of the way of each other first.
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 16) for fd in (nothing, output, output, events)]
    for target, fd in enumerate(high):
        os.dup2(fd, target)


def main(arguments: list[str]) -> None:
    """`arguments`: the "module:function" to call before serving, or nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for target in filter(None, arguments):
        resolve(target)()
    # The heap as it is now is shared with every runner: the collector must not write to it.
    gc.collect()
    gc.freeze()
    ForkServer(control).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
