"""What the sandbox costs: the time to lock down a process, and a job in it beside the same job without.

The jobs are run in turn by runners of one warm fork server, without Redis, storage or uploads.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Literal

from tasks.queue import DEFAULT_QUEUE
from tasks.sandbox.children import Child, Runners
from tasks.sandbox.choice import source_of
from tasks.sandbox.lockdown import Limits, Sandbox, lock_down
from tasks.settings import Settings
from tasks.warming import warm_targets
from tests.benchmarks.table import Row
from tests.benchmarks.tutorial_job import SPEC

__all__ = ["run"]

Kind = Literal["landlock", "external"]
_LOCKS = 50
_NOTHING = "tests.benchmarks.nothing:compress"


def run(model: Path, data: Path, *, rounds: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as home:
        runners = Runners(warm_targets(Settings(), [DEFAULT_QUEUE]), Path(home))
        try:
            jobs = [
                _row("the tutorial's job", runners, Settings().runner_target, model, data, rounds, "< 1.1"),
                _row("a job that does nothing", runners, _NOTHING, model, data, 4 * rounds, ""),
            ]
        finally:
            runners.stop()
    return [*jobs, _lock_row()]


def _row(what: str, runners: Runners, target: str, model: Path, data: Path, rounds: int, goal: str) -> Row:
    _seconds(runners, "external", target, model, data)  # the first pays for the imports
    taken: dict[Kind, list[float]] = {"landlock": [], "external": []}
    for _ in range(rounds):
        for kind, seconds in taken.items():
            seconds.append(_seconds(runners, kind, target, model, data))
    inside, outside = statistics.median(taken["landlock"]), statistics.median(taken["external"])
    name = f"{what}: in the sandbox ÷ with limits alone"
    return Row(name, f"{inside:.3f} s", f"{outside:.3f} s", inside / outside, goal)


def _seconds(runners: Runners, kind: Kind, target: str, model: Path, data: Path) -> float:
    """From asking for the runner to hearing of its end; RuntimeError when the job failed."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / "job"
        for name in ("in", "home", "work"):
            (scratch / name).mkdir(parents=True)
        files = {"model": f"in/model{model.suffix}", "dataset": f"in/dataset{data.suffix}"}
        shutil.copyfile(model, scratch / files["model"])
        shutil.copyfile(data, scratch / files["dataset"])
        task = {"job_id": "job_bench", "target": target, "spec": SPEC, "threads": 0, **files}
        (scratch / "task.json").write_text(json.dumps(task))
        began = time.perf_counter()
        child = runners.start(scratch, Limits(), Sandbox(kind), read=source_of(target))
        try:
            _hear_out(child)
        finally:
            child.close()
        seconds = time.perf_counter() - began
        result = json.loads((scratch / "result.json").read_text())
        if result["ok"] is None:
            raise RuntimeError(result["failed"]["problem"]["detail"])
        return seconds


def _hear_out(child: Child) -> None:
    with selectors.DefaultSelector() as selector:
        for fd in (child.events, child.output, child.status):
            selector.register(fd, selectors.EVENT_READ)
        while child.exit is None:
            for key, _ in selector.select():
                if key.fd == child.status:
                    child.hear()
                elif not os.read(key.fd, 65536):
                    selector.unregister(key.fd)


def _lock_row() -> Row:
    inside, outside = (
        statistics.median(_lock_ms(kind) for _ in range(_LOCKS)) for kind in ("landlock", "external")
    )
    name = f"locking a process down ÷ setting its limits alone, median of {_LOCKS}"
    return Row(name, f"{inside:.1f} ms", f"{outside:.1f} ms", inside / outside)


def _lock_ms(kind: Kind) -> float:
    with tempfile.TemporaryDirectory() as scratch:
        reading, writing = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            began = time.perf_counter()
            keep = frozenset({0, 1, 2, writing})
            lock_down(Path(scratch), Limits(), parent=parent, keep_fds=keep, sandbox=Sandbox(kind))
            os.write(writing, str(1000 * (time.perf_counter() - began)).encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            said = pipe.read()
        os.waitpid(pid, 0)
        return float(said)
