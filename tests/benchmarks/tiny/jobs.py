"""One row: its model and samples sent through the running service, and what its report says."""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featherweight import Client, Report
from tasks.compression.litert import Program
from tests.benchmarks.machine import machine
from tests.benchmarks.quality.measure import accuracy, gzip_bytes
from tests.benchmarks.tiny.completeness import gaps
from tests.benchmarks.tiny.results import Result
from tests.benchmarks.tiny.rows import TinyRow

__all__ = ["Files", "measure", "of_the_reference"]

TIMEOUT_S = 1800


@dataclass(frozen=True)
class Files:
    """The model of a row as it is sent, the int8 file published beside it, the data set, and a folder for
    what comes back."""

    model: Path
    reference: Path
    data: Path
    output: Path


def measure(client: Client, row: TinyRow, files: Files) -> Result:
    began = time.perf_counter()
    job = client.compress(files.model, spec=row.spec, dataset=files.data, name=row.name)
    job.wait(timeout=TIMEOUT_S).download(files.output)
    return _result(row.name, files, job.report(), time.perf_counter() - began)


def _result(name: str, files: Files, report: Report, seconds: float) -> Result:
    (output,) = report.outputs
    assert output.accuracy is not None, "every row has samples to test on"
    assert output.parameters, "every network has weights"
    assert output.nonzero_parameters is not None, "and they are counted"
    change, before = output.difference, report.original.accuracy
    return Result(
        name=name,
        original_bytes=report.original.bytes,
        bytes=output.bytes,
        gzip_bytes=output.gzip_bytes,
        reference_bytes=files.reference.stat().st_size,
        reference_gzip_bytes=gzip_bytes(files.reference),
        zeros=1 - output.nonzero_parameters / output.parameters,
        metric=output.accuracy.metric,
        before=None if before is None else before.value,
        after=output.accuracy.value,
        change=None if change is None else (change.value, change.low, change.high),
        reference=of_the_reference(files.reference, files.data, output.accuracy.metric),
        flipped=output.flipped,
        n=output.accuracy.n,
        float_ms=_median_ms(report.baseline),
        ms=_median_ms(output),
        warnings=tuple(dict.fromkeys(item.code for item in report.warnings)),
        gaps=tuple(gaps(report)),
        seconds=seconds,
        machine=machine(),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )


def of_the_reference(reference: Path, data: Path, metric: str) -> float | None:
    """What the published file comes to on the same test samples: its accuracy by the labels, the error of an
    autoencoder by its inputs; None where the metric is another."""
    with np.load(data) as arrays:
        x = arrays["x_test"]
        if metric == "accuracy":
            return accuracy(reference, x, arrays["y_test"])
    if metric != "mean_squared_error":
        return None
    answers = np.asarray(Program(reference.read_bytes()).predict(x))
    return float(((answers - x) ** 2).mean())


def _median_ms(variant: object) -> float:
    latency = getattr(variant, "latency", None)
    return float("nan") if latency is None else float(latency.p50_ms)
