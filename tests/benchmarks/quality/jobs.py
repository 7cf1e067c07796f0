"""One row: its recipe sent through the running service, and what comes back measured."""

from __future__ import annotations

import datetime
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featherweight import Client, Report
from featherweight.spec import CompressionSpec, Quantize
from featherweight.specfile import load_spec
from tests.benchmarks import tutorial_job
from tests.benchmarks.quality import speed
from tests.benchmarks.quality.measure import FLOAT32_BYTES, accuracy, gzip_bytes, times
from tests.benchmarks.quality.results import Result
from tests.benchmarks.quality.rows import QualityRow

__all__ = ["Files", "measure", "warm_up"]

TIMEOUT_S = 3600


@dataclass(frozen=True)
class Files:
    """The original of a row, its float32 ``.tflite`` (`plain`), the data set, and a folder for what comes
    back."""

    original: Path
    plain: Path
    data: Path
    output: Path


@dataclass(frozen=True)
class _Done:
    report: Report
    tflite: Path
    seconds: float


def warm_up(client: Client, original: Path) -> None:
    """The first job pays for the imports of the worker's fork server."""
    steps = [{"technique": "quantize", "scheme": "dynamic_int8"}]
    client.compress(original, spec={"steps": steps}).wait(timeout=TIMEOUT_S)


def measure(client: Client, row: QualityRow, files: Files, *, rounds: int, machine: str) -> Result:
    """Send the row's recipe, once, or `rounds` times in turn with the plain script where they are compared;
    of seconds the median counts."""
    done, script = [], []
    for _ in range(rounds if row.against_script else 1):
        if row.against_script:
            script.append(tutorial_job.plain_script(files.original, files.data)["wall_s"])
        done.append(_through_the_service(client, row, files))
    seconds = statistics.median(item.seconds for item in done)
    measured = _of_the_file(row, files, done[-1])
    if row.against_script:
        measured["script_share"] = seconds / statistics.median(script)
    if row.faster_than_original:
        measured["speedup"] = speed.ratio(_converted_alike(client, row, files), done[-1].tflite)
        measured["macs_share"] = _macs_share(done[-1].report)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    rounded = {name: round(value, 6) for name, value in measured.items()}
    return Result(row.name, rounded, seconds, machine, today)


def _through_the_service(client: Client, row: QualityRow, files: Files) -> _Done:
    """From the first byte sent to the last byte received, uploads and download included."""
    began = time.perf_counter()
    job = client.compress(files.original, spec=row.recipe, dataset=files.data, name=row.name)
    job.wait(timeout=TIMEOUT_S).download(files.output)
    seconds = time.perf_counter() - began
    return _Done(job.report(), files.output / "model.tflite", seconds)


def _converted_alike(client: Client, row: QualityRow, files: Files) -> Path:
    """The original as a ``.tflite`` of the types that the recipe's result has: what is left of the recipe is
    the quantisation at its end, if there is one."""
    last = load_spec(row.recipe).steps[-1]
    if not isinstance(last, Quantize):
        return files.plain
    job = client.compress(files.original, spec=CompressionSpec(steps=(last,)), dataset=files.data)
    job.wait(timeout=TIMEOUT_S).download(files.output / "original")
    return files.output / "original" / "model.tflite"


def _of_the_file(row: QualityRow, files: Files, done: _Done) -> dict[str, float]:
    x, y = _test_split(files.data)
    baseline = done.report.original.accuracy
    assert baseline is not None, "the data sets have labels"
    assert baseline.n == len(y)
    value, packed = accuracy(done.tflite, x, y), gzip_bytes(done.tflite)
    return {
        "bytes": done.tflite.stat().st_size,
        "gzip_bytes": packed,
        "times": times(_size_of_original(row, files, done.report), packed),
        "accuracy": value,
        "error": 1 - value,
        "change": value - baseline.value,
    }


def _size_of_original(row: QualityRow, files: Files, report: Report) -> int:
    """The tutorials gzip the original too; elsewhere its float32 parameters count, as in the papers."""
    if row.original == "tutorial":
        return gzip_bytes(files.original)
    assert report.original.parameters is not None
    return FLOAT32_BYTES * report.original.parameters


def _macs_share(report: Report) -> float:
    details = [step.details for step in report.steps if step.technique == "prune_channels"]
    return float(details[-1]["macs_after"]) / float(details[0]["macs_before"])


def _test_split(data: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    with np.load(data) as arrays:
        return arrays["x_test"], arrays["y_test"]
