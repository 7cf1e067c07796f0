"""Measured results, a JSON file for each row: the table can be made from runs on different days."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import document

__all__ = ["Result", "read_results"]


@dataclass(frozen=True)
class Result:
    """What the row `name` came to: `measured` by the names in rows.MEASURES; `seconds` from the first byte
    sent to the last received; `machine` and `date` say where and when."""

    name: str
    measured: Mapping[str, float]
    seconds: float
    machine: str
    date: str

    def write(self, folder: Path) -> Path:
        return document.write(self, folder)


def read_results(folder: Path) -> dict[str, Result]:
    """By name; rows that were never measured are not in it."""
    return {name: Result(**fields) for name, fields in document.read(folder).items()}
