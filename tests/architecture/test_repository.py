"""What must not stand in the repository: paths of somebody's machine, hosts of a registry, secrets."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORBIDDEN = {
    "a home directory": re.compile(r"/(?:root|home/\w+)/"),
    "an absolute path of a checkout": re.compile(re.escape(str(ROOT)) + r"\b"),
    "a package index": re.compile(r"--(?:extra-)?index-url|pypi\.org/simple|files\.pythonhosted"),
    "a private key": re.compile(r"BEGIN [A-Z ]*PRIVATE KEY"),
}
# The Docker build cache is where pip of the image's root has it; this file names what it looks for.
EXEMPT = {"Dockerfile": {"a home directory"}, "tests/architecture/test_repository.py": set(FORBIDDEN)}


def tracked_files() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what: str) -> None:
    holding = [
        name
        for name in tracked_files()
        if what not in EXEMPT.get(name, set())
        and FORBIDDEN[what].search((ROOT / name).read_text(errors="ignore"))
    ]
    assert holding == []


def test_no_file_is_large() -> None:
    large = {name: size for name in tracked_files() if (size := (ROOT / name).stat().st_size) > 400_000}
    assert large == {}


def test_the_makefile_shows_help_for_each_of_its_commands() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    assert phony is not None
    documented = re.findall(r"^([a-z-]+):.*## \S", makefile, flags=re.MULTILINE)
    assert sorted(documented) == sorted(phony[1].split())
