"""Measured results, a JSON file for each row: the table can be made from runs on different days."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import document

__all__ = ["Result", "read_results"]


@dataclass(frozen=True)
class Result:
    """What the row `name` came to, by its report; sizes in bytes, times in milliseconds but for `seconds`,
    from the first byte sent to the last received.

    `change` is the output's metric less the original's with its 95 % interval, null without labels; `n` the
    test samples. `gaps` are the fields that the report lacks (completeness.gaps)."""

    name: str
    original_bytes: int
    bytes: int
    gzip_bytes: int
    reference_bytes: int
    reference_gzip_bytes: int
    zeros: float
    metric: str
    before: float | None
    after: float
    change: tuple[float, float, float] | None
    reference: float | None
    flipped: float | None
    n: int
    float_ms: float
    ms: float
    warnings: tuple[str, ...]
    gaps: tuple[str, ...]
    seconds: float
    machine: str
    date: str

    def write(self, folder: Path) -> Path:
        return document.write(self, folder)


def read_results(folder: Path) -> Mapping[str, Result]:
    """By name; rows that were never measured are not in it."""
    return {name: _result(fields) for name, fields in document.read(folder).items()}


def _result(values: dict[str, object]) -> Result:
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return Result(**{**values, **lists})  # type: ignore[arg-type]
