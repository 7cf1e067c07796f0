"""Jobs that are planned first: the plan and the job say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from featherweight.plan import Plan
from featherweight.spec import CompressionSpec
from tasks.compression import CompressionError, Outcome, compress
from tasks.compression.arrays import is_of_samples
from tasks.compression.npz import read_shapes
from tasks.compression.outline.reading import read_outline
from tasks.compression.planning import plan

__all__ = ["Spec", "done", "planned", "refused"]

Spec = dict[str, Any]


def planned(model: Path, spec: Spec, dataset: Path | None) -> Plan:
    shapes = None if dataset is None else read_shapes(dataset, is_of_samples)
    checked = CompressionSpec.model_validate(spec)
    return plan(read_outline(model), checked, shapes=shapes, has_dataset=dataset is not None)


def done(model: Path, spec: Spec, tmp_path: Path, dataset: Path | None = None) -> tuple[Outcome, Plan]:
    told = planned(model, spec, dataset)
    assert told.feasible, told.problems
    return compress(model, spec, dataset=dataset, workdir=tmp_path / "work"), told


def refused(model: Path, spec: Spec, tmp_path: Path, dataset: Path | None = None) -> CompressionError:
    """What the job says; the plan says the same first."""
    told = planned(model, spec, dataset)
    with pytest.raises(CompressionError) as caught:
        compress(model, spec, dataset=dataset, workdir=tmp_path / "work")
    error, first = caught.value, told.problems[0]
    assert (first.code, first.detail, first.hint) == (error.code, error.detail, error.hint)
    assert first.pointer == (None if error.pointer is None else f"/spec{error.pointer}")
    return error
