from __future__ import annotations

import re
from pathlib import Path

import pytest

from tasks.python_version import FLOORS, outdated

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("version", "old"), [
    ((3, 11, 7), True), ((3, 11, 13), True), ((3, 11, 14), False),
    ((3, 12, 11), True), ((3, 12, 12), False), ((3, 13, 0), False),
])  # fmt: skip
def test_an_old_python_is_told_of(version: tuple[int, int, int], old: bool) -> None:
    assert (outdated(version) is not None) is old


def test_the_images_are_new_enough_and_pinned_to_the_patch() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    found = re.search(r"^FROM python:(\d+)\.(\d+)\.(\d+)-slim", dockerfile, re.MULTILINE)
    assert found is not None
    major, minor, micro = map(int, found.groups())
    assert (major, minor) in FLOORS
    assert outdated((major, minor, micro)) is None
