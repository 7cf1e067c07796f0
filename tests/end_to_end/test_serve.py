"""``make serve``: what it prints works when pasted, and Ctrl-C ends it with its data kept."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.end_to_end.test_nothing_left import mind_ctrl_c

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.stack]


class Served:
    def __init__(self, directory: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deploy.local.serve", "--port", "0", "--directory", str(directory)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=mind_ctrl_c,
        )
        self.text = self._read_until("Ctrl-C ends everything.")
        key = re.search(r"API key\s+(\S+)", self.text)
        if key is None:
            self.interrupt()
            raise RuntimeError(self.text)
        self.key = key[1]

    def _read_until(self, last: str) -> str:
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if last in line:
                break
        return "".join(lines)

    def command(self, word: str) -> str:
        return next(line.strip() for line in self.text.splitlines() if word in line)

    def interrupt(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGINT)
        rest, _ = self.process.communicate(timeout=60)
        return self.process.returncode, rest


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def served(directory: Path) -> Iterator[Served]:
    """One for both tests, of which the second ends it."""
    served = Served(directory)
    yield served
    if served.process.poll() is None:
        served.interrupt()


def test_what_it_prints_can_be_pasted(served: Served) -> None:
    made = subprocess.run(["sh", "-c", served.command("curl ")], cwd=ROOT, capture_output=True, text=True)
    assert json.loads(made.stdout)["id"].startswith("mdl_"), made

    both = served.command("export ") + "\n" + served.command(" compress ")
    done = subprocess.run(["sh", "-c", both], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def models(served: Served) -> list[tuple[str, str]]:
    url = re.search(r"URL\s+(\S+)", served.text)
    assert url is not None
    answer = httpx.get(f"{url[1]}/v1/models", headers={"Authorization": f"Bearer {served.key}"})
    return [(model["id"], model["filename"]) for model in answer.json()["data"]]


def test_it_ends_by_ctrl_c_and_is_the_same_when_it_comes_back(served: Served, directory: Path) -> None:
    arguments = shlex.split(served.command("curl "))
    subprocess.run(arguments, cwd=ROOT, capture_output=True, check=True)
    sent = models(served)
    assert sent
    assert {filename for _, filename in sent} == {"digits.keras"}
    started = psutil.Process(served.process.pid).children(recursive=True)
    exit_code, rest = served.interrupt()
    assert exit_code == 0, rest
    assert "Everything has ended" in rest
    assert "Traceback" not in rest
    assert [process.cmdline() for process in started if process.is_running()] == []

    again = Served(directory)
    try:
        assert again.key == served.key
        assert models(again) == sent
    finally:
        again.interrupt()
