"""``make chaos``: real jobs on a real stack while workers, Redis, storage and the API are killed and frozen.

    python -m tests.chaos [--jobs 200] [--seed 1] [--workers 3] [--keep DIR] [--write]

Ends with exit code 1 when a promise was broken; what happened is then kept in a folder, which it names.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import Options, run
from tests.chaos.table import markdown

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="decides the jobs, the faults and who is struck")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="folder to do it in, which is kept")
    parser.add_argument("--write", action="store_true", help="replace the table in docs/reliability.md")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("tests.chaos").setLevel(logging.INFO)
    directory = arguments.keep or Path(tempfile.mkdtemp(prefix="featherweight-chaos-"))
    directory.mkdir(parents=True, exist_ok=True)
    print(f"What happens is kept in {directory}", flush=True)  # noqa: T201
    result = run(Options(arguments.jobs, arguments.seed, arguments.workers, directory))
    text = markdown(result)
    sys.stdout.write(text)
    for promise, found in result.broken.items():
        for said in found:
            print(f"{promise}: {said}", file=sys.stderr)  # noqa: T201
    if not result.kept:
        print(f"Promises were broken; the evidence is in {directory}", file=sys.stderr)  # noqa: T201
        return 1
    if arguments.write:
        before, _, rest = DOCUMENT.read_text().partition(BEGIN)
        DOCUMENT.write_text(f"{before}{BEGIN}\n{text}{END}{rest.partition(END)[2]}")
    if arguments.keep is None:
        shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
