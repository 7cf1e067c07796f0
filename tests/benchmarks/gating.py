"""What the static gate costs: judging a file of every format, in its confined process and without one."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tasks.gate import judge
from tasks.sandbox.gate import Role, check
from tasks.settings import Settings
from tests.benchmarks.table import Row
from tests.gate.good_files import DATASETS, MODELS

__all__ = ["run"]

_GOAL = "< 0.6 s"


def run(model: Path, data: Path, *, rounds: int) -> list[Row]:
    files: list[tuple[str, Role, bytes]] = [(name, "model", make()) for name, make in MODELS.items()]
    files += [(name, "dataset", make()) for name, make in DATASETS.items()]
    real: list[tuple[str, Role, Path]] = [
        ("the tutorial's model", "model", model),
        ("the tutorial's data", "dataset", data),
    ]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "file"
        rows = []
        for name, role, content in files:
            place.write_bytes(content)
            rows.append(_row(name, role, place, rounds))
        for name, role, path in real:
            shutil.copyfile(path, place)
            rows.append(_row(name, role, place, rounds))
    return rows


def _row(name: str, role: Role, path: Path, rounds: int) -> Row:
    """RuntimeError when the file is not let in: what is refused is judged by less than all rules."""

    def confined() -> None:
        refused = judge(Settings(), path.parent, {role: path.name})
        if refused is not None:
            raise RuntimeError(f"{name}: {refused.detail}")

    check(path, role)  # the first pays for the imports
    inside = _median(confined, rounds)
    alone = _median(lambda: check(path, role), rounds)
    what = f"{name}, {path.stat().st_size:,} B: the whole verdict beside its checks alone"
    return Row(what, f"{inside:.2f} s", f"{1000 * alone:.2f} ms", None, _GOAL)


def _median(call: Callable[[], None], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)
