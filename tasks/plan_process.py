"""What runs in the process of a plan or an inspection: read the task, lock down, read the files, write it.

    stdin    {"spec", "model" or "outline", "has_dataset", "dataset" or "shapes" or "not_counted", limits,
             "sandbox", "runner_uid"}, without "spec" an inspection: {"model" or "outline", "format",
             "framework", limits, "sandbox", "runner_uid"}
    stdout   {"plan" or "inspection", "outline", "shapes"}; the last two only where they were read here

Everything is imported before the process is confined, and no file of a caller is opened before that.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py  # noqa: F401 - imported before the process is confined

from featherweight.plan import Plan, PlanProblem
from featherweight.spec import CompressionSpec
from tasks.compression.arrays import is_of_samples
from tasks.compression.catalogue import ROWS, resolve
from tasks.compression.errors import CompressionError
from tasks.compression.inspection import inspect, unreadable
from tasks.compression.npz import read_shapes
from tasks.compression.outline import tflite
from tasks.compression.outline.bounds import Bounds
from tasks.compression.outline.facts import Outline
from tasks.compression.outline.onnx import reading as onnx
from tasks.compression.outline.reading import read_outline
from tasks.compression.outline.saved_model import reading as saved_model
from tasks.compression.planning import plan
from tasks.sandbox.lockdown import Limits, Sandbox, chosen_user, lock_down

__all__ = ["CANNOT_CONFINE", "inspected", "main", "planned"]

# Exit code: there is no sandbox here, and nothing was read.
CANNOT_CONFINE = 70

_RESULT_BYTES = 64 << 20


def main(scratch: Path, parent: int) -> int:
    task = json.load(sys.stdin)
    for row in ROWS:
        for name in (row.plan, row.plan_check):
            if name is not None:
                resolve(name)
    assert tflite
    assert saved_model
    assert onnx
    limits = Limits(
        memory_bytes=task["memory_bytes"],
        file_bytes=_RESULT_BYTES,
        open_files=64,
        cpu_s=int(task["cpu_s"]) + 1,
    )
    sandbox = Sandbox(kind=task["sandbox"], uid=chosen_user(task["runner_uid"], scratch.parent))
    try:
        lock_down(scratch, limits, parent=parent, keep_fds=frozenset({0, 1, 2}), sandbox=sandbox)
    except OSError as error:
        print(error.strerror, file=sys.stderr)  # noqa: T201 - for the log of the service
        return CANNOT_CONFINE
    answer = planned if "spec" in task else inspected
    json.dump(answer(scratch, task), sys.stdout)
    return 0


def planned(scratch: Path, task: Mapping[str, Any]) -> dict[str, Any]:
    """The plan, and what was read for it."""
    spec = CompressionSpec.model_validate(task["spec"])
    read: dict[str, Any] = {}
    try:
        outline = _outline(scratch, task, read)
    except CompressionError as error:
        return {"plan": _refused(spec, error)}
    fault = None
    shapes = task.get("shapes")
    if shapes is None and task.get("dataset"):
        try:
            shapes = read["shapes"] = read_shapes(scratch / task["dataset"], is_of_samples)
        except CompressionError as error:
            fault = error
    made = plan(
        outline,
        spec,
        shapes=None
        if shapes is None
        else {name: (tuple(size), room) for name, (size, room) in shapes.items()},
        has_dataset=task["has_dataset"],
        not_counted=str(fault.detail) if fault is not None else task.get("not_counted"),
    )
    if fault is not None:
        problems = [*made.problems, _problem(fault)]
        made = made.model_copy(update={"feasible": False, "problems": problems})
    return {"plan": made.model_dump(mode="json"), **read}


def inspected(scratch: Path, task: Mapping[str, Any]) -> dict[str, Any]:
    """The inspection, and what was read for it."""
    read: dict[str, Any] = {}
    try:
        made = inspect(_outline(scratch, task, read))
    except CompressionError as error:
        size = (scratch / task["model"]).stat().st_size
        made = unreadable(error, format=task["format"], framework=task["framework"], bytes=size)
    return {"inspection": made.model_dump(mode="json"), **read}


def _outline(scratch: Path, task: Mapping[str, Any], read: dict[str, Any]) -> Outline:
    """As it was kept, or else of the file; then it is in `read` as well."""
    if task.get("outline") is not None:
        return Outline.model_validate(task["outline"])
    outline = read_outline(scratch / task["model"], Bounds(weight_bytes=task["memory_bytes"] // 2))
    read["outline"] = outline.model_dump(mode="json")
    return outline


def _refused(spec: CompressionSpec, error: CompressionError) -> dict[str, Any]:
    refused = Plan(feasible=False, problems=[_problem(error)], spec=spec.model_dump(mode="json"))
    return refused.model_dump(mode="json")


def _problem(error: CompressionError) -> PlanProblem:
    return PlanProblem(code=error.code, detail=error.detail, hint=error.hint, layer=error.layer)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
