"""``make bench-quality``: real networks through the running service by the recipes of docs/recipes/.

    python -m tests.benchmarks.quality --data DIR [--only NAME ...] [--missing] [--write]

Originals, data sets and results stay in ``.local/quality``: originals are trained once, and each row's result
is a file of its own, so that rows can be measured one at a time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from deploy.local.stack import LocalStack
from featherweight import Client
from tests.benchmarks.machine import machine
from tests.benchmarks.quality import datasets, jobs, table
from tests.benchmarks.quality.originals import ORIGINALS, TrainedByTorch
from tests.benchmarks.quality.results import read_results
from tests.benchmarks.quality.rows import ROWS, QualityRow

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "benchmarks.md"


def main() -> None:
    options = _options()
    folder: Path = options.folder
    for name in ("originals", "datasets", "results", "outputs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    known = read_results(folder / "results")
    chosen = [ROWS[name] for name in options.only or ROWS if not (options.missing and name in known)]
    if chosen and not options.table:
        measure(chosen, folder, options.data, rounds=options.rounds)
    text = table.markdown(ROWS.values(), read_results(folder / "results"))
    sys.stdout.write(text)
    if options.write:
        DOCUMENT.write_text(table.replaced(DOCUMENT.read_text(), text))


def measure(rows: Sequence[QualityRow], folder: Path, data: Path, *, rounds: int) -> None:
    """Measure `rows` one after the other on one stack with one worker; each result is written at once."""
    files = {row.name: _files(row, folder, data) for row in rows}
    with (
        tempfile.TemporaryDirectory(prefix="featherweight-quality-") as scratch,
        LocalStack(Path(scratch)) as stack,
        Client(stack.url, stack.api_key) as client,
    ):
        jobs.warm_up(client, files[rows[0].name].original)
        for row in rows:
            result = jobs.measure(client, row, files[row.name], rounds=rounds, machine=machine())
            path = result.write(folder / "results")
            sys.stdout.write(f"{row.name}: {result.seconds:.1f} s, {path.read_text()}")
            sys.stdout.flush()


def _files(row: QualityRow, folder: Path, data: Path) -> jobs.Files:
    suffix = ".pt2" if isinstance(ORIGINALS[row.original], TrainedByTorch) else ".h5"
    original = folder / "originals" / f"{row.original}{suffix}"
    plain = original.with_suffix(".tflite")
    if not original.exists() or not plain.exists():
        # In a process of its own: TensorFlow's memory goes with it.
        command = [sys.executable, "-m", "tests.benchmarks.quality.originals", str(original.parent)]
        subprocess.run([*command, row.original, "--data", str(data)], check=True, cwd=ROOT)
    dataset = datasets.save(row.dataset, data, folder / "datasets" / f"{row.dataset}.npz")
    return jobs.Files(original, plain, dataset, folder / "outputs" / row.name)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with MNIST, CIFAR-10 and the MLPerf Tiny models")
    parser.add_argument("--only", nargs="+", choices=list(ROWS), help="these rows")
    parser.add_argument("--missing", action="store_true", help="only rows that have no result yet")
    parser.add_argument("--table", action="store_true", help="measure nothing, make the table of the results")
    parser.add_argument("--rounds", type=int, default=3, help="of what is timed beside the plain script")
    parser.add_argument("--folder", type=Path, default=ROOT / ".local" / "quality")
    parser.add_argument("--write", action="store_true", help="replace the table in docs/benchmarks.md")
    options = parser.parse_args()
    if options.data is None and not options.table:
        parser.error("--data DIR is needed: the data sets and published models are no part of the project")
    return options


if __name__ == "__main__":
    main()
