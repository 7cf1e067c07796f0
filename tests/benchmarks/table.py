"""A benchmark's result: two figures measured side by side and their ratio."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Row", "markdown"]


@dataclass(frozen=True)
class Row:
    """`ratio` is `measured` ÷ `reference`; `goal` is what was asked of it, in words."""

    what: str
    measured: str
    reference: str
    ratio: float | None
    goal: str = ""


def markdown(rows: Iterable[Row]) -> str:
    lines = ["| what | measured | beside it | ratio | goal |", "| --- | ---: | ---: | ---: | --- |"]
    lines += [
        f"| {row.what} | {row.measured} | {row.reference} "
        f"| {'' if row.ratio is None else format(row.ratio, '.3g')} | {row.goal} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"
