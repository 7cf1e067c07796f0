"""Damaged files that the gate let in, read in runners as a worker starts them, a few hundred in each."""

from __future__ import annotations

import json
import os
import select
import signal
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tasks.queue import DEFAULT_QUEUE
from tasks.sandbox.children import Child, Runners
from tasks.sandbox.choice import chosen_sandbox, source_of
from tasks.sandbox.lockdown import Limits
from tasks.settings import Settings
from tasks.warming import warm_targets
from tests.fuzzing.reading import MARK

__all__ = ["Read", "read_in_runners"]

_TARGET = "tests.fuzzing.reading:compress"
_IN_ONE_RUNNER = 200
_START_S = 60.0
_EACH_S = 60.0
_MEMORY_BYTES = 4 << 30
_FILE_BYTES = 1 << 30


class Read(NamedTuple):
    """`said` of a file made from `format`: "read", "refused CODE", "fault ...", "crash ..." or "hang"."""

    format: str
    content: bytes
    said: str


def read_in_runners(files: Sequence[tuple[str, bytes]]) -> list[Read]:
    """What came of each of `files`, given with what it was made from."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(scratch_dir=Path(folder))
        runners = Runners(warm_targets(settings, [DEFAULT_QUEUE]), Path(folder) / ".home")
        try:
            runners.warm_up()
            said: list[str] = []
            while len(said) < len(files):
                batch = files[len(said) : len(said) + _IN_ONE_RUNNER]
                said += _one_runner(settings, runners, Path(folder) / f"from{len(said)}", batch)
            return [Read(*made, what) for made, what in zip(files, said, strict=True)]
        finally:
            runners.stop()


def _one_runner(
    settings: Settings, runners: Runners, scratch: Path, batch: Sequence[tuple[str, bytes]]
) -> list[str]:
    """Of as many files as one runner comes to: all of them, or up to the one that ended it."""
    for name in ("in", "home", "work"):
        (scratch / name).mkdir(parents=True)
    for number, (_, content) in enumerate(batch):
        (scratch / "in" / str(number)).write_bytes(content)
    named = [[str(number), format_] for number, (format_, _) in enumerate(batch)]
    task = {"job_id": "job_fuzz", "target": _TARGET, "spec": {"files": named}, "threads": 1}
    (scratch / "task.json").write_text(json.dumps({**task, "model": "in/0", "dataset": None}))
    limits = Limits(memory_bytes=_MEMORY_BYTES, file_bytes=_FILE_BYTES)
    child = runners.start(scratch, limits, chosen_sandbox(settings), read=source_of(_TARGET))
    try:
        printed, in_time = _heard(child)
    finally:
        child.close()
    marked = [line[len(MARK) + 1 :] for line in printed.splitlines() if line.startswith(MARK)]
    if not marked:
        raise RuntimeError(f"no file was read: {printed[-2000:]}")
    said = marked[1::2]
    if len(marked) % 2:
        code = None if child.exit is None else child.exit.code
        said.append(f"crash {code}" if in_time else "hang")
    return said


def _heard(child: Child) -> tuple[str, bool]:
    """All that the runner printed until it was dead; False when it went on with one file for too long."""
    held, marks, in_time = b"", 0, True
    deadline = time.monotonic() + _START_S
    open_ends = [child.output, child.events]
    while True:
        ready, _, _ = select.select([child.status, *open_ends], [], [], 1.0)
        for fd in [fd for fd in open_ends if fd in ready]:
            said = os.read(fd, 1 << 16)
            if not said:
                open_ends.remove(fd)
            elif fd == child.output:
                held += said
        if (seen := held.count(MARK.encode())) != marks:
            marks, deadline = seen, time.monotonic() + _EACH_S
        if child.status in ready and child.hear():
            break
        if in_time and time.monotonic() > deadline:
            in_time = False
            child.signal(signal.SIGKILL)
    if child.output in open_ends:
        os.set_blocking(child.output, False)
        with suppress(BlockingIOError):
            while said := os.read(child.output, 1 << 16):
                held += said
    return held.decode(errors="replace"), in_time
