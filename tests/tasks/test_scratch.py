"""Folders for attempts: kept work, planted links, and two who want the same one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.joblog import Hidden, JobLog
from tasks.sandbox.collect import OutputRefused, read_output
from tasks.scratch import claimed_scratch, discard_leftovers, job_ids


def test_only_finished_steps_are_kept_for_the_next_attempt(tmp_path: Path) -> None:
    with claimed_scratch(tmp_path, "job_a", 1) as scratch:
        (scratch.path / "work" / "step").write_text("done")
        (scratch.path / "in" / "model").write_text("x")
        (scratch.path / "result.json").write_text("{}")
    with claimed_scratch(tmp_path, "job_a", 2) as scratch:
        assert {path.name for path in scratch.path.iterdir()} == {"in", "home", "work", "attempt"}
        assert (scratch.path / "work" / "step").read_text() == "done"
        assert list(scratch.inputs.iterdir()) == []


def test_links_that_an_attempt_planted_are_removed_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("precious")
    root = tmp_path / "scratch"
    with claimed_scratch(root, "job_a", 1) as scratch:
        for name in ("in", "home", "work"):
            (scratch.path / name).rmdir()
            (scratch.path / name).symlink_to(tmp_path / "outside")
        (scratch.path / "task.json").symlink_to(tmp_path / "outside" / "file")
    with claimed_scratch(root, "job_a", 2) as scratch:
        assert not any(path.is_symlink() for path in scratch.path.iterdir())
    assert (tmp_path / "outside" / "file").read_text() == "precious"


@pytest.mark.parametrize("planted", ["7", "-7", "9" * 100, "x", ""])
def test_number_of_the_last_attempt_is_believed_if_it_is_one(tmp_path: Path, planted: str) -> None:
    with claimed_scratch(tmp_path, "job_a", 1) as scratch:
        assert scratch.left_by == 0
        (scratch.path / "attempt").write_text(planted)
    with claimed_scratch(tmp_path, "job_a", 2) as scratch:
        assert scratch.left_by == {"7": 7, "9" * 100: 9_999_999_999}.get(planted, 0)
        scratch.mark(2)
    with claimed_scratch(tmp_path, "job_a", 3) as scratch:
        assert scratch.left_by == 2
        (scratch.path / "attempt").unlink()
        (scratch.path / "attempt").symlink_to(tmp_path / "number")
        (tmp_path / "number").write_text("5")
    with claimed_scratch(tmp_path, "job_a", 4) as scratch:
        assert scratch.left_by == 0
    assert (tmp_path / "number").read_text() == "5"


def test_folder_in_use_is_left_to_its_owner(tmp_path: Path) -> None:
    with claimed_scratch(tmp_path, "job_a", 1) as first, claimed_scratch(tmp_path, "job_a", 2) as second:
        assert first.path != second.path
        discard_leftovers(tmp_path, "job_a")
        assert first.inputs.is_dir()
        assert second.inputs.is_dir()
    assert job_ids(tmp_path) == {"job_a"}
    discard_leftovers(tmp_path, "job_a")
    assert job_ids(tmp_path) == set()


def test_discarded_folder_is_gone(tmp_path: Path) -> None:
    with claimed_scratch(tmp_path, "job_a", 1) as scratch:
        scratch.discard()
    assert list(tmp_path.iterdir()) == []
    with claimed_scratch(tmp_path, "job_a", 2) as scratch:
        assert scratch.inputs.is_dir()


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "out/../../secret", "", ".", "out/", "a\nb"])
def test_output_names_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "scratch" / "out").mkdir(parents=True)
    with pytest.raises(OutputRefused):
        read_output(tmp_path / "scratch", name, max_bytes=10)


def test_output_that_is_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 11)
    with pytest.raises(OutputRefused, match="larger than 10"):
        read_output(tmp_path, "big", max_bytes=10)
    assert read_output(tmp_path, "big", max_bytes=11) == b"x" * 11


def test_log_keeps_beginning_and_end() -> None:
    log = JobLog(Hidden({}), half_bytes=100)
    for number in range(1000):
        log.write(f"line {number}\n".encode())
    text = log.getvalue().decode()
    assert text.startswith("line 0\n")
    assert text.endswith("line 999\n")
    assert "bytes left out" in text
    assert len(text) < 300


def test_log_hides_paths_also_across_pieces() -> None:
    log = JobLog(Hidden({"/srv/scratch/job_a": ".", "/srv": "featherweight"}))
    log.write(b"at /srv/scr")
    log.write(b"atch/job_a/in/model and /srv/x\nno newline \xff")
    assert log.getvalue().decode() == "at ./in/model and featherweight/x\nno newline �"
