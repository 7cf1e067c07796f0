"""The quality table, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tests.benchmarks.quality.results import Result
from tests.benchmarks.quality.rows import MEASURES, QualityRow

__all__ = ["markdown", "replaced"]

BEGIN, END = "<!-- quality: begin -->", "<!-- quality: end -->"

_HEAD = ("job and recipe", "to beat", "goal", "measured", "reached", "seconds", "what limits it")


def markdown(rows: Iterable[QualityRow], results: Mapping[str, Result]) -> str:
    """All rows; one without a result says so."""
    lines = [_line(_HEAD), "| --- | --- | --- | --- | --- | ---: | --- |"]
    lines += [_line(_cells(row, results.get(row.name))) for row in rows]
    when = sorted({f"{result.date} on {result.machine}" for result in results.values()})
    said = "".join(f"Measured {text}.\n" for text in when)
    return f"{said}\n" + "\n".join(lines) + "\n"


def replaced(document: str, text: str) -> str:
    """`document` with what is between the markers replaced by `text`; ValueError without markers."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{text}{END}{after}"


def _cells(row: QualityRow, result: Result | None) -> tuple[str, ...]:
    title = f"{row.title} ([`{row.recipe.name}`](recipes/{row.recipe.name}))"
    goal = "; ".join(item.text() for item in row.goals)
    if result is None:
        return title, row.published, goal, "not measured", "", "", ""
    missed = [item for item in row.goals if not item.reached(result.measured[item.measure])]
    names = dict.fromkeys([*(item.measure for item in row.goals), *row.shown])
    measured = "; ".join(MEASURES[name].shown(result.measured[name]) for name in names)
    reached = "yes" if not missed else "no: " + "; ".join(item.text() for item in missed)
    limits = row.limits if missed else ""
    return title, row.published, goal, measured, reached, f"{result.seconds:.1f}", limits


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
