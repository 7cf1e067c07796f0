"""Whatever happens to the stack's owner, nothing of the stack stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.stack]

OWNER = """
import sys, time
from pathlib import Path
import psutil
from deploy.local.main import run_main
from deploy.local.stack import LocalStack

def main():
    # The fork server imports nothing beforehand: what is tried is who ends it.
    with LocalStack(Path(sys.argv[1]), runner_warm="") as stack:
        worker = psutil.Process(stack.workers[0].pid)
        while not any("tasks.sandbox.forkserver" in child.cmdline() for child in worker.children()):
            time.sleep(0.05)
        print("up", flush=True)
        time.sleep(60)

run_main(main)
"""


def mind_ctrl_c() -> None:
    """A shell starts what runs in the background with SIGINT ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has started a stack."""
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=mind_ctrl_c,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n", process.stderr and process.stderr.read()
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_nothing_is_left_when_the_owner_gets(number: signal.Signals, owner: subprocess.Popen[str]) -> None:
    started = psutil.Process(owner.pid).children(recursive=True)
    names = {process.name() for process in started}
    assert len(started) >= 6, names  # redis, weed, gunicorn and its two workers, celery, the fork server
    os.kill(owner.pid, number)
    owner.wait(timeout=40)
    _, alive = psutil.wait_procs(started, timeout=10)
    assert [process.cmdline() for process in alive] == []


def test_the_demo_ends_by_itself_and_leaves_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    environment.pop("REDIS_URL", None)
    demo = subprocess.Popen(
        [sys.executable, "-m", "deploy.local.demo"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    seen: dict[int, psutil.Process] = {}
    while demo.poll() is None:
        try:
            seen.update({child.pid: child for child in psutil.Process(demo.pid).children(recursive=True)})
        except psutil.NoSuchProcess:
            break
        time.sleep(0.2)
    output, _ = demo.communicate()
    assert demo.returncode == 0, output
    assert "verdict: smaller" in output
    assert "gzipped bytes" in output
    assert len(seen) >= 7  # those of the stack, and the training
    assert [process.cmdline() for process in seen.values() if process.is_running()] == []
    assert list(tmp_path.iterdir()) == []
