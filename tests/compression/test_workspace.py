from __future__ import annotations

from pathlib import Path

import pytest

from tasks.compression.workspace import StepRecord, Workspace, chain


def test_key_depends_on_all_that_made_the_result() -> None:
    key = chain("start", step={"a": 1}, seed=0)
    assert key == chain("start", seed=0, step={"a": 1})
    assert len({key, chain("other", step={"a": 1}, seed=0), chain("start", step={"a": 2}, seed=0)}) == 3


def test_kept_step_is_found_with_its_record(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    record = StepRecord(seconds=1.5, details={"loss": "x"})
    workspace.keep("k", record, lambda directory: (directory / "net").touch())
    found = Workspace(tmp_path).find("k")
    assert found is not None
    assert (found[0] / "net").exists()
    assert found[1] == record


def test_step_whose_saving_failed_is_not_found(tmp_path: Path) -> None:
    def fail(directory: Path) -> None:
        (directory / "half").touch()
        raise OSError("disk full")

    workspace = Workspace(tmp_path)
    with pytest.raises(OSError, match="disk full"):
        workspace.keep("k", StepRecord(), fail)
    assert workspace.find("k") is None


def test_step_with_a_damaged_record_is_not_found(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.keep("k", StepRecord(), lambda directory: None)
    (tmp_path / "steps" / "k" / "step.json").write_text("{")
    assert workspace.find("k") is None
