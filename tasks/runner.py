"""What runs in the process of a job: read the task, do it, write the result.

    <scratch>/task.json     {"job_id", "target", "spec", "model", "dataset", "threads"}; paths are relative
              work/         the working folder; finished steps and the checkpoint of a training are kept
                            there for the next attempt
              work/out/     the outputs
              result.json   a `Result`

Events go to a pipe as JSON lines, standard output and error to another as they are.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints

from featherweight.events import Event
from featherweight.problem import Problem, problem
from featherweight.report import Verdict
from tasks.compression.stopping import Stopped
from tasks.sandbox.exits import disk_limit
from tasks.targets import resolve
from tasks.termination import Termination, end_by_sigterm

__all__ = ["Failed", "Made", "Result", "main"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

OutputName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


OutputNames = Annotated[list[OutputName], Field(max_length=32)]


class Made(BaseModel):
    """The outputs, by their names in ``work/out``."""

    verdict: Verdict | None = None
    artifacts: OutputNames


class Failed(BaseModel):
    """Why there is no result, and the names in ``work/out`` of what is worth having all the same."""

    problem: Problem
    artifacts: OutputNames = []


class Result(BaseModel):
    """How it went: one of the two."""

    ok: Made | None = None
    failed: Failed | None = None


def main(scratch: Path, events_fd: int) -> int:
    """Exit code: 0 when there is a result, which may be a problem."""
    try:
        result = _run(scratch, json.loads((scratch / "task.json").read_text()), events_fd)
    except Stopped:
        end_by_sigterm()
    except BaseException as error:  # noqa: BLE001 - whatever it is, the caller is told
        traceback.print_exc()
        result = Result(failed=Failed(problem=_problem(error), artifacts=_kept(error)))
    part = scratch / "result.json.part"
    part.write_text(result.model_dump_json())
    part.replace(scratch / "result.json")
    return 0


def _run(scratch: Path, task: Mapping[str, Any], events_fd: int) -> Result:
    compress = resolve(task["target"])
    outcome = compress(
        scratch / task["model"],
        task["spec"],
        dataset=scratch / task["dataset"] if task["dataset"] else None,
        workdir=scratch / "work",
        emit=_emitter(events_fd),
        threads=task["threads"],
        job_id=task["job_id"],
        stop=Termination(),
    )
    names = [path.name for path in outcome.artifacts]
    return Result(ok=Made(verdict=outcome.report.verdict, artifacts=names))


def _emitter(fd: int) -> Callable[[Event], None]:
    lock = threading.Lock()

    def emit(event: Event) -> None:
        line = event.model_dump_json().encode() + b"\n"
        with lock:
            while line:
                line = line[os.write(fd, line) :]

    return emit


def _kept(error: BaseException) -> list[str]:
    """The domain's errors bring the files that a job made before it failed."""
    return [path.name for path in getattr(error, "artifacts", ())]


def _problem(error: BaseException) -> Problem:
    """The domain's errors bring their own problem; of others only the kind is told: what they say
    may name files of this machine, and stands in the log."""
    make = getattr(error, "problem", None)
    if callable(make):
        made = make()
        if isinstance(made, Problem):
            return made
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return problem(
            "out_of_memory",
            "the job needed more memory than it got",
            hint="a smaller batch_size needs less memory",
        )
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return disk_limit("a file larger than any may be")
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return problem("disk_full", "the disk of the worker was full")
    return problem(
        "runner_crashed", f"an unexpected {type(error).__name__}", hint="the job's log may show more"
    )
