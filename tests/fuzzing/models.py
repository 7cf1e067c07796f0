"""Damaged models and data sets, sent through the static gate: each must be let in or refused with a code.

Good files of every format are damaged at random and judged in a confined process, a few hundred in each; it
says of which file it is about to open, so that a crash or a hang is known to be that file's, and the rest
goes on in another process. Of files that can be loaded when they are whole, those that the gate lets in are
read in runners as jobs read them, and some of the models go through whole jobs. ``make fuzz-models`` runs it
with thousands of files, and a test with fewer; the same seed makes the same files.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

from tasks.gate import judge
from tasks.sandbox.gate import Role
from tasks.settings import Settings
from tests.fuzzing.confined_reading import read_in_runners
from tests.fuzzing.loadable import loadable_datasets, loadable_models
from tests.fuzzing.mutations import mutated
from tests.fuzzing.reading import SPECS
from tests.fuzzing.running import run_jobs
from tests.gate.good_files import DATASETS, MODELS
from tests.gate.keras_files import DENSE, hdf5, sequential
from tests.service.models import graph_archive

__all__ = ["FORMATS", "Findings", "fuzz"]

ROOT = Path(__file__).parents[2]
FORMATS: dict[str, tuple[Role, Callable[[], bytes]]] = {
    "keras2 .keras": ("model", MODELS["keras2"]),
    "keras3 .keras": ("model", MODELS["keras3"]),
    "keras2 .h5": ("model", lambda: hdf5(sequential(DENSE))),
    "keras3 .h5": ("model", MODELS["keras3 hdf5"]),
    "SavedModel .zip": ("model", graph_archive),
    ".tflite": ("model", MODELS["tflite"]),
    ".onnx": ("model", MODELS["onnx"]),
    "exported program": ("model", MODELS["exported program"]),
    ".npz": ("dataset", DATASETS["npz"]),
    ".csv": ("dataset", DATASETS["csv with quotes"]),
    ".parquet": ("dataset", DATASETS["parquet"]),
    "images .zip": ("dataset", DATASETS["zip of images"]),
    "images .tar": ("dataset", DATASETS["tar of images"]),
    "images .tar.gz": ("dataset", DATASETS["tar.gz of images"]),
    ".tfrecord": ("dataset", DATASETS["tfrecord"]),
    ".tfrecord.gz": ("dataset", DATASETS["tfrecord.gz"]),
}
_IN_ONE_PROCESS = 250
_START_S = 30.0
_EACH_S = 20.0
_LOOK_S = 0.005


class Fault(NamedTuple):
    """`number` of the damaged file: with format and seed it says which it was."""

    format: str
    number: int
    said: str
    content: bytes


class Findings(NamedTuple):
    """By format and what came of the files; faults; those let in that are not as they were."""

    outcomes: Counter[tuple[str, str]]
    faults: list[Fault]
    let_in: list[tuple[str, bytes]]

    def counts(self, format_: str) -> dict[str, int]:
        """Files refused, let in, at fault."""
        found: Counter[str] = Counter()
        for (name, said), count in self.outcomes.items():
            if name == format_:
                found[said.partition(" ")[0]] += count
        return {kind: found[kind] for kind in ("refused", "let", "fault", "crash", "hang")}


Good = Mapping[str, tuple[Role, Callable[[], bytes]]]


def fuzz(formats: Collection[str], *, files: int, start: int, good_files: Good = FORMATS) -> Findings:
    """Judge `files` damaged files of each format, made from the seed `start`."""
    findings = Findings(Counter(), [], [])
    for role in ("model", "dataset"):
        made = {name: good_files[name][1]() for name in formats if good_files[name][0] == role}
        wanted = [(name, number) for name in made for number in range(files)]
        for first in range(0, len(wanted), _IN_ONE_PROCESS):
            batch = wanted[first : first + _IN_ONE_PROCESS]
            contents = {
                place: mutated(random.Random(f"{start} {name} {number}"), made[name])
                for place, (name, number) in enumerate(batch)
            }
            for place, said in _judged(role, contents):
                name, number = batch[place]
                findings.outcomes[name, said if not said.startswith("fault") else "fault"] += 1
                if said.startswith(("fault", "crash", "hang")):
                    findings.faults.append(Fault(name, number, said, contents[place]))
                if said == "let in" and contents[place] != made[name]:
                    findings.let_in.append((name, contents[place]))
    return findings


def _judged(role: Role, contents: dict[int, bytes]) -> Iterator[tuple[int, str]]:
    """What came of each: "let in", "refused CODE", "fault ...", "crash ..." or "hang"."""
    with tempfile.TemporaryDirectory() as made:
        scratch = Path(made)
        for number, content in contents.items():
            (scratch / str(number)).write_bytes(content)
        left = list(contents)
        while left:
            done = _one_process(scratch, role, left)
            yield from done
            left = left[len(done) :]


def _one_process(scratch: Path, role: Role, numbers: list[int]) -> list[tuple[int, str]]:
    """As many as one process comes to: all of them, or up to the one that ended it."""
    task = {"role": role, "files": [str(number) for number in numbers], "sandbox": "landlock"}
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as said,
        tempfile.TemporaryFile() as error,
    ):
        given.write(json.dumps(task).encode())
        given.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.fuzzing.confined", str(scratch), str(os.getpid())],
            stdin=given,
            stdout=said,
            stderr=error,
            cwd=scratch,
            env={
                "PATH": "/usr/bin:/bin",
                "OPENBLAS_NUM_THREADS": "1",
                "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "clients")]),
            },
        )
        in_time = _watched(process, said)
        lines = _lines(said)
        if not lines:
            error.seek(0)
            raise RuntimeError(f"no file was judged: {error.read()[-500:].decode(errors='replace')}")
        done = [(int(name), outcome) for name, outcome in zip(lines[::2], lines[1::2], strict=False)]
        if len(lines) % 2:
            done.append((int(lines[-1]), f"crash {process.returncode}" if in_time else "hang"))
        return done


def _watched(process: subprocess.Popen[bytes], said: IO[bytes]) -> bool:
    """Wait for the process for as long as it goes on from file to file; False when it was killed."""
    size, since, allowed = 0, time.monotonic(), _START_S
    while process.poll() is None:
        if (now := os.fstat(said.fileno()).st_size) != size:
            size, since, allowed = now, time.monotonic(), _EACH_S
        if time.monotonic() - since > allowed:
            process.kill()
            process.wait()
            return False
        time.sleep(_LOOK_S)
    return True


def _lines(said: IO[bytes]) -> list[str]:
    said.seek(0)
    return said.read().decode().splitlines()


def main() -> int:
    """What there was, on standard output; files at fault are kept where --keep says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2000, help="damaged files of each format")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--read", type=int, default=2000, help="of each format that can be loaded")
    parser.add_argument("--jobs", type=int, default=20, help="models let in that go through a whole job")
    parser.add_argument("--keep", type=Path, help="folder for files at fault")
    args = parser.parse_args()
    began = time.monotonic()
    findings = fuzz(args.formats, files=args.files, start=args.seed)
    for name in args.formats:
        print(f"{name:18}", findings.counts(name))  # noqa: T201
    codes: Counter[str] = Counter()
    for (_, said), count in findings.outcomes.items():
        codes[said] += count
    print(f"{codes.total()} files in {time.monotonic() - began:.0f} s: {dict(codes.most_common())}")  # noqa: T201
    for fault in findings.faults:
        print(f"{fault.format}, file {fault.number}: {fault.said}", file=sys.stderr)  # noqa: T201
        if args.keep is not None:
            args.keep.mkdir(parents=True, exist_ok=True)
            (args.keep / f"{fault.format.replace(' ', '_')}-{fault.number}").write_bytes(fault.content)
    let_in = _let_in(args.read, args.seed)
    unread = _read(let_in, args.keep)
    models = [(name, content) for name, content in let_in if name not in SPECS]
    chosen = random.Random(args.seed).sample(models, min(args.jobs, len(models)))
    ended = run_jobs(chosen) if chosen else Counter()
    print(f"{ended.total()} jobs of models let in: {dict(ended.most_common())}")  # noqa: T201
    crashed = {"runner_crashed", "internal_error", "not ended"} & ended.keys()
    harmful = [fault for fault in findings.faults if not _is_refused_alone(fault)]
    return 1 if harmful or crashed or unread else 0


def _let_in(files: int, start: int) -> list[tuple[str, bytes]]:
    """Of so many damaged files of each format that can be loaded, those that the gate lets in."""
    good = loadable_models() | loadable_datasets()
    findings = fuzz(good, files=files, start=start, good_files=good)
    for name in good:
        print(f"loadable {name:15}", findings.counts(name))  # noqa: T201
    return findings.let_in


def _read(files: list[tuple[str, bytes]], keep: Path | None) -> bool:
    """Read them in runners and say what came of it; whether a runner crashed or hung over one of them."""
    began = time.monotonic()
    found = read_in_runners(files)
    said = Counter(read.said.partition(":")[0] for read in found)
    print(f"{len(found)} read in runners in {time.monotonic() - began:.0f} s: {dict(said.most_common())}")  # noqa: T201
    for number, read in enumerate(found):
        if read.said.startswith(("read", "refused")):
            continue
        print(f"{read.format}, let in {number}: {read.said}", file=sys.stderr)  # noqa: T201
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"read-{number}-{read.format}").write_bytes(read.content)
    return any(read.said.startswith(("crash", "hang")) for read in found)


def _is_refused_alone(fault: Fault) -> bool:
    """Whether the gate, as it is used, refuses a file over which its process crashes or hangs. What a check
    does not expect is a fault of the check."""
    if fault.said.startswith("fault"):
        return False
    role = FORMATS[fault.format][0]
    with tempfile.TemporaryDirectory() as made:
        (Path(made) / role).write_bytes(fault.content)
        refused = judge(Settings(), Path(made), {role: role})
    told = "let in" if refused is None else f"{refused.code}: {refused.detail}"
    print(f"{fault.format}, file {fault.number}, by itself: {told}")  # noqa: T201
    return refused is not None


if __name__ == "__main__":
    sys.exit(main())
