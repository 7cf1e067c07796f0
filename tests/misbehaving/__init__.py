"""What jobs may do to a worker: each file is something to run in place of the compression.

They take what ``tasks.compression.compress`` takes, and are named for how they misbehave.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass
class Report:
    verdict: str = "smaller"


@dataclass
class Outcome:
    report: Report
    artifacts: tuple[Path, ...] = ()


def made(workdir: Path, **files: str) -> Outcome:
    """An outcome with the files ``name="content"``; a double underscore in a name is a dot."""
    out = workdir / "out"
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / name.replace("__", ".") for name in files]
    for path, text in zip(paths, files.values(), strict=True):
        path.write_text(text)
    return Outcome(Report(), tuple(paths))
