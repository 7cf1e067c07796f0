"""Does the sandbox hold here? Asked by a worker before it takes its first job.

A real runner, started and confined like any job's, tries what must be refused (``tasks.sandbox.probe``)
against an outside made for it: a file, a TCP and a UDP port, two unix sockets, the worker itself. Each
of them answers whoever gets through, so a refusal is no accident.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tasks.sandbox.children import Child, Exit, Runners
from tasks.sandbox.collect import OutputRefused, read_output
from tasks.sandbox.lockdown import Limits, Sandbox
from tasks.sandbox.probe import MUST_WORK, RESULT, TRACED
from tasks.sandbox.removal import remove_tree

__all__ = ["SandboxLeaks", "check", "probe"]

_TARGET = "tasks.sandbox.probe:compress"
_RESULT_BYTES = 64 * 1024
# The fork server may be importing a framework.
_PATIENCE_S = 300.0
_TRACE = "trace the worker"


class SandboxLeaks(Exception):
    """The sandbox does not hold, or holds too much; says what."""


def check(
    runners: Runners, sandbox: Sandbox, scratch_root: Path, *, stopped: Callable[[], bool] = lambda: False
) -> None:
    """SandboxLeaks unless every access is refused, and what jobs need works. RunnerLost, OSError.

    Given up, with SandboxLeaks, once `stopped` says so.
    """
    found = probe(runners, sandbox, scratch_root, stopped=stopped)
    through = [name for name, outcome in found.items() if outcome == "allowed" and name not in MUST_WORK]
    missing = [name for name in sorted(MUST_WORK) if found.get(name) != "allowed"]
    if through:
        raise SandboxLeaks(f"the sandbox lets through: {', '.join(through)}")
    if missing:
        raise SandboxLeaks(f"the sandbox refuses what jobs need: {', '.join(missing)}")


def probe(
    runners: Runners, sandbox: Sandbox, scratch_root: Path, *, stopped: Callable[[], bool] = lambda: False
) -> dict[str, str]:
    """Every access with "allowed" or "blocked". SandboxLeaks when the runner does not come to an end."""
    scratch_root.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".selftest-", dir=scratch_root))
    try:
        with _outside() as outside:
            for name in ("home", "work"):
                (scratch / name).mkdir()
            task = {"job_id": "selftest", "target": _TARGET, "spec": outside, "model": "", "dataset": None}
            (scratch / "task.json").write_text(json.dumps({**task, "threads": 1}))
            ended, said = _run(runners, sandbox, scratch, stopped)
            return _results(scratch, ended, said, sandbox)
    finally:
        remove_tree(scratch)


def _run(runners: Runners, sandbox: Sandbox, scratch: Path, stopped: Callable[[], bool]) -> tuple[Exit, str]:
    child = runners.start(scratch, Limits(), sandbox)
    try:
        said = _hear_out(child, time.monotonic() + _PATIENCE_S, stopped)
        if child.exit is None:
            child.signal(signal.SIGKILL)
    finally:
        child.close()
    if child.exit is None:
        raise SandboxLeaks("the self-test has not come to an end")
    return child.exit, said


def _hear_out(child: Child, deadline: float, stopped: Callable[[], bool]) -> str:
    """What the runner wrote, at most its last few lines' worth."""
    said = b""
    with selectors.DefaultSelector() as selector:
        for fd in (child.events, child.output, child.status):
            selector.register(fd, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < deadline and not stopped():
            for key, _ in selector.select(0.2):
                if key.fd == child.status:
                    if child.hear():
                        selector.unregister(key.fd)
                elif not (data := os.read(key.fd, 4096)):
                    selector.unregister(key.fd)
                elif key.fd == child.output:
                    said = (said + data)[-2000:]
    return said.decode(errors="replace")


def _results(scratch: Path, ended: Exit, said: str, sandbox: Sandbox) -> dict[str, str]:
    try:
        text = read_output(scratch, f"work/out/{RESULT}", max_bytes=_RESULT_BYTES, owner=sandbox.uid)
        found: dict[str, str] = json.loads(text)
    except (OutputRefused, ValueError) as error:
        last = said.strip().splitlines()[-1:] or [f"exit code {ended.code}"]
        # Strangers may read it, who need not know our folders.
        shown = re.sub(r"'/[^']*'", "a file", last[0])
        raise SandboxLeaks(f"no process could be confined: {shown}") from error
    traced = (scratch / "work" / "out" / TRACED).exists()
    return {**found, _TRACE: "allowed" if traced else "blocked"}


@contextmanager
def _outside() -> Iterator[dict[str, Any]]:
    """Something of every kind that a runner must not reach, and answers whoever does."""
    # In the system's temporary folder: the name of a unix socket must be short.
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fw-")))
        secret, not_a_program = folder / "secret", folder / "program"
        secret.write_text("a secret of the worker")
        not_a_program.write_text("")
        not_a_program.chmod(0o755)

        def bound(family: int, kind: int, address: Any) -> socket.socket:
            made = stack.enter_context(socket.socket(family, kind))
            made.bind(address)
            return made

        tcp = bound(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        tcp.listen()
        udp = bound(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
        bound(socket.AF_UNIX, socket.SOCK_DGRAM, str(folder / "socket"))
        abstract = f"featherweight-selftest-{os.getpid()}-{folder.name}"
        bound(socket.AF_UNIX, socket.SOCK_DGRAM, "\0" + abstract)
        # Open to all, so that no mode refuses what the sandbox should.
        folder.chmod(0o777)
        secret.chmod(0o666)
        (folder / "socket").chmod(0o777)
        yield {
            "secret": str(secret),
            "folder": str(folder),
            "not_a_program": str(not_a_program),
            "tcp": tcp.getsockname()[1],
            "udp": udp.getsockname()[1],
            "unix": str(folder / "socket"),
            "abstract": abstract,
            "worker": os.getpid(),
        }
