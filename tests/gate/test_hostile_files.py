"""Hostile files, one of each kind: each is refused with its code, and nothing outside is read or made."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest

from featherweight.problem import CODES
from tasks import gate
from tasks.compression.errors import CompressionError
from tasks.gate import CONFINED, GateFailed, judge
from tasks.sandbox.gate import check
from tasks.settings import Settings
from tests.gate import data_files, exported_files, keras_files, onnx_files, other_models

MODELS = {**keras_files.FILES, **other_models.FILES, **exported_files.FILES, **onnx_files.FILES}
ROWS = [("model", name, *row) for name, row in MODELS.items()]
ROWS += [("dataset", name, *row) for name, row in data_files.FILES.items()]
CANARY = "the-canary-of-this-machine-abcdefghi"


class Outside(NamedTuple):
    canary: Path
    markers: Path


@pytest.fixture
def outside(tmp_path: Path) -> Outside:
    canary, markers = tmp_path / "canary", tmp_path / "markers"
    markers.mkdir()
    canary.write_text(CANARY)
    with h5py.File(tmp_path / "victim.h5", "w") as file:
        file["x"] = np.full((4, 2), 7, np.float32)
    return Outside(canary, markers)


@pytest.mark.parametrize(("role", "name", "code", "make"), ROWS, ids=[f"{row[1]}" for row in ROWS])
def test_a_hostile_file_is_refused_with_its_code(
    role: str, name: str, code: str, make: keras_files.Make, outside: Outside, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(make(outside.canary, outside.markers))
    with pytest.raises(CompressionError) as caught:
        check(path, role)  # type: ignore[arg-type]
    error = caught.value
    assert error.code == code, error
    assert CODES[code].status == (413 if code == "archive_bomb" else 422)
    assert (error.pointer or "").startswith(f"/{role}")
    told = error.problem().model_dump_json()
    assert CANARY not in told
    assert str(tmp_path) not in told
    assert not list(outside.markers.iterdir())


@pytest.mark.parametrize(
    "name",
    [
        "tk_lambda_h5",
        "k3_extstorage_h5",
        "k3_zipbomb",
        "sm_write_init",
        "tfl_flex_read",
        "pt2_opaque",
        "onnx_external",
    ],
)
def test_the_confined_process_says_the_same(name: str, outside: Outside, tmp_path: Path) -> None:
    code, make = MODELS[name]
    (tmp_path / "file").write_bytes(make(outside.canary, outside.markers))
    found = judge(Settings(), tmp_path, {"model": "file"})
    assert found is not None
    assert (found.code, found.stage) == (code, "load")
    assert found.errors[0].pointer.startswith("/model")


def test_a_process_that_takes_too_long_over_a_file_has_judged_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(
        scratch: Path, given: Any, verdict: Any, deadline_s: float, check: Any
    ) -> tuple[int | None, str]:
        verdict.write(CONFINED)
        return None, ""

    monkeypatch.setattr(gate, "_run", slow)
    (tmp_path / "file").write_bytes(b"a,b\n")
    with caplog.at_level(logging.WARNING, logger="tasks.gate"):
        found = judge(Settings(), tmp_path, {"dataset": "file"})
    assert found is not None
    assert (found.code, found.errors[0].pointer) == ("bad_data", "/dataset")
    assert "within" in found.detail


def test_a_process_that_was_not_confined_in_time_has_judged_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"a,b\n")
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    with pytest.raises(GateFailed):
        judge(Settings(), tmp_path, {"dataset": "file"}, deadline_s=0.05)
