"""``make bench-tiny``: the networks of MLPerf Tiny through the running service.

    python -m tests.benchmarks.tiny --data DIR [--only NAME ...] [--missing] [--write]

Data sets and results stay in ``.local/tiny``; each row's result is a file of its own, so that rows can be
measured one at a time. Ends with exit code 1 where a report lacks what it should say.
"""

from __future__ import annotations

import argparse
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from deploy.local.stack import LocalStack
from featherweight import Client
from tests.benchmarks.tiny import jobs, samples, table
from tests.benchmarks.tiny.results import read_results
from tests.benchmarks.tiny.rows import ROWS, TinyRow

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "benchmarks.md"


def main() -> int:
    options = _options()
    folder: Path = options.folder
    for name in ("models", "datasets", "results", "outputs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    known = read_results(folder / "results")
    chosen = [ROWS[name] for name in options.only or ROWS if not (options.missing and name in known)]
    if chosen and not options.table:
        measure(chosen, folder, options.data)
    results = read_results(folder / "results")
    text = table.markdown(ROWS.values(), results)
    sys.stdout.write(text)
    if options.write:
        DOCUMENT.write_text(table.replaced(DOCUMENT.read_text(), text))
    incomplete = [f"{name}: {', '.join(result.gaps)}" for name, result in results.items() if result.gaps]
    sys.stderr.writelines(f"the report lacks {line}\n" for line in incomplete)
    return 1 if incomplete else 0


def measure(rows: Sequence[TinyRow], folder: Path, data: Path) -> None:
    """Measure `rows` one after the other on one stack with one worker; each result is written at once."""
    files = {row.name: _files(row, folder, data) for row in rows}
    with (
        tempfile.TemporaryDirectory(prefix="featherweight-tiny-") as scratch,
        LocalStack(Path(scratch)) as stack,
        Client(stack.url, stack.api_key) as client,
    ):
        for row in rows:
            path = jobs.measure(client, row, files[row.name]).write(folder / "results")
            sys.stdout.write(f"{row.name}: {path.read_text()}")
            sys.stdout.flush()


def _files(row: TinyRow, folder: Path, data: Path) -> jobs.Files:
    published = data / "mlperf_tiny"
    dataset = samples.save(row.model.samples, data, folder / "datasets" / f"{row.model.samples}.npz")
    model = published / row.model.file
    if model.is_dir():
        model = _packed(model, folder / "models" / f"{model.name}.tar.gz")
    return jobs.Files(model, published / row.model.reference, dataset, folder / "outputs" / row.name)


def _packed(directory: Path, path: Path) -> Path:
    """A SavedModel as one file."""
    with tarfile.open(path, "w:gz") as archive:
        archive.add(directory, arcname=directory.name)
    return path


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with CIFAR-10 and the MLPerf Tiny models")
    parser.add_argument("--only", nargs="+", choices=list(ROWS), help="these rows")
    parser.add_argument("--missing", action="store_true", help="only rows that have no result yet")
    parser.add_argument("--table", action="store_true", help="measure nothing, make the table of the results")
    parser.add_argument("--folder", type=Path, default=ROOT / ".local" / "tiny")
    parser.add_argument("--write", action="store_true", help="replace the table in docs/benchmarks.md")
    options = parser.parse_args()
    if options.data is None and not options.table:
        parser.error("--data DIR is needed: data sets and published models are no part of the project")
    return options


if __name__ == "__main__":
    sys.exit(main())
