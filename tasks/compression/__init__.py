"""The compression domain: a trained network, a spec and a data set in; small, measured files out.

It knows no web, queue or cloud, and speaks through the callable it is given::

    from tasks.compression import compress

    outcome = compress(Path("model.keras"), {"steps": [...]}, dataset=Path("digits.npz"), workdir=Path("w"))
    outcome.report.outputs[0].accuracy

Importing this package loads no framework, and no NumPy either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featherweight.events import Event
from featherweight.report import Report
from featherweight.spec import CompressionSpec
from tasks.compression.errors import CompressionError
from tasks.compression.stopping import Never, Stop

__all__ = ["CompressionError", "Outcome", "compress", "ignore"]


@dataclass(frozen=True)
class Outcome:
    """What a job made: the report, and the files in ``workdir/out`` (outputs, report.json, report.html and
    spec.json)."""

    report: Report
    artifacts: tuple[Path, ...]


def ignore(event: Event) -> None:
    """Listens to no event."""


def compress(
    model: Path,
    spec: CompressionSpec | Mapping[str, Any],
    *,
    dataset: Path | None = None,
    workdir: Path,
    emit: Callable[[Event], None] = ignore,
    threads: int = 0,
    job_id: str | None = None,
    stop: Stop | None = None,
) -> Outcome:
    """Do to `model` what `spec` says, measure the files that come out, and report.

    `dataset` is an ``.npz`` with ``x`` and ``y``, or ``x_train``, ``y_train`` and, if the caller has a
    test split, ``x_test`` and ``y_test``; or a file of another format, which `spec` says how to read under
    `data`. Files go to `workdir`, which is made; run again in the same `workdir`, steps already finished
    are not repeated, and a training goes on from its newest checkpoint. `threads` of 0 uses all cores.
    `stop` is looked at where a moment saves much: see `Stop`.

    Raises CompressionError for what the caller can mend, with the files of `artifacts` kept where a failed
    step had something to give; pydantic.ValidationError for a mapping that is no spec.
    """
    from tasks.compression.pipeline import run

    return run(
        model,
        spec,
        dataset=dataset,
        workdir=workdir,
        emit=emit,
        threads=threads,
        job_id=job_id,
        stop=stop or Never(),
    )
