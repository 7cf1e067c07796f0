"""The same spec, seed and machine: the same bytes, whatever the process did before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tasks.compression.catalogue import ROWS
from tasks.compression.outputs import COMPANIONS, FILES
from tests.compression.repeated import CASES

ROOT = Path(__file__).parents[2]

Digests = dict[str, dict[str, str]]


def in_a_process(folder: Path, names: Iterable[str], hash_seed: int) -> Digests:
    done = subprocess.run(
        [sys.executable, "-m", "tests.compression.repeated", str(folder), *names],
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Digests, Digests]:
    """Once in the order of the table and once in the opposite one: counters of the process, on which
    frameworks' names depend, differ, as do the orders of sets."""
    folder = tmp_path_factory.mktemp("repeated")
    return in_a_process(folder, CASES, 1), in_a_process(folder, reversed(list(CASES)), 2)


@pytest.mark.parametrize("name", CASES)
def test_the_same_job_in_another_process_makes_the_same_bytes(
    twice: tuple[Digests, Digests], name: str
) -> None:
    first, second = (digests[name] for digests in twice)
    wanted = {FILES[output] for output in CASES[name].outputs}
    wanted |= {COMPANIONS[output] for output in CASES[name].outputs if output in COMPANIONS}
    assert set(first) == wanted | {"spec.json"}
    assert first == second


def test_every_technique_and_output_is_among_the_jobs() -> None:
    rows = [row for row in ROWS if row.framework == "tensorflow"]
    techniques = {step["technique"] for case in CASES.values() for step in case.steps}
    assert techniques == {row.technique for row in rows}
    outputs = {output for case in CASES.values() for output in case.outputs}
    assert outputs == {output for row in rows for output in row.outputs}
