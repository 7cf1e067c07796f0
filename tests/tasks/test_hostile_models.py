"""Hostile models handed straight to a runner that loads them without a look: the sandbox alone stops them.

Each is loaded without the sandbox too, where it does what it was made for: so none of them is harmless.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tasks import keys
from tasks.sandbox.children import Runners
from tests.misbehaving.hostile_models import CASES
from tests.tasks.conftest import PROJECT, Bench

SECRET = "the-secret-of-the-machine-abcdefg"


class Outside(NamedTuple):
    models: Path
    marker: Path
    listener: socket.socket

    def harmed(self) -> bool:
        """Whether the marker was made, or somebody connected; forgotten after that."""
        made = self.marker.exists()
        self.marker.unlink(missing_ok=True)
        try:
            self.listener.accept()[0].close()
        except BlockingIOError:
            return made
        return True


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    folder = tmp_path_factory.mktemp("hostile")
    models, secret, marker = folder / "models", folder / "secret", folder / "marker"
    models.mkdir()
    secret.write_text(SECRET)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        port = str(listener.getsockname()[1])
        command = [sys.executable, "-m", "tests.misbehaving.hostile_models", models, secret, marker, port]
        subprocess.run(command, check=True, capture_output=True)
        outside = Outside(models, marker, listener)
        while outside.harmed():
            pass
        yield outside


@pytest.fixture(scope="module")
def warm_runners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runners]:
    runners = Runners("tasks.compression.backends.tensorflow:warm", tmp_path_factory.mktemp("home"))
    runners.warm_up()
    yield runners
    runners.stop()


def load(bench: Bench, warm_runners: Runners, model: Path, kind: str) -> str:
    """What the model held, or why it was not loaded."""
    bench.runners = warm_runners
    job = bench.submit(data=model.read_bytes())
    bench.supervisor("loads_trustingly", sandbox=kind).run(job.id)
    ended = bench.store.get(PROJECT, job.id)
    assert ended.state == "succeeded", ended.error
    return bench.storage.read(keys.artifact_key(PROJECT, job.id, 1, "held.json")).decode()


@pytest.mark.parametrize("name", CASES)
def test_hostile_model_does_no_harm_in_the_sandbox_and_harm_without(
    bench: Bench, warm_runners: Runners, outside: Outside, name: str
) -> None:
    held = load(bench, warm_runners, outside.models / name, "landlock")
    assert SECRET[:32] not in held
    assert not outside.harmed()
    held = load(bench, warm_runners, outside.models / name, "external")
    assert outside.harmed() or SECRET[:32] in held


def test_worker_lives_after_all_that(bench: Bench, warm_runners: Runners) -> None:
    bench.runners = warm_runners
    assert bench.run("behaves").state == "succeeded"
