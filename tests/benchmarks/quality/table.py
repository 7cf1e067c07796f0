"""The quality table, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tests.benchmarks import document
from tests.benchmarks.quality.results import Result
from tests.benchmarks.quality.rows import MEASURES, QualityRow

__all__ = ["markdown", "replaced"]

_NAME = "quality"
BEGIN, END = document.markers(_NAME)

_HEAD = ("job and recipe", "to beat", "goal", "measured", "reached", "seconds", "what limits it")


def markdown(rows: Iterable[QualityRow], results: Mapping[str, Result]) -> str:
    """All rows; one without a result says so."""
    cells = [_cells(row, results.get(row.name)) for row in rows]
    return document.table([_HEAD, ["---"] * 5 + ["---:", "---"], *cells], results.values())


def replaced(text: str, table: str) -> str:
    """`text` with `table` between the markers, rows without a result as they were; ValueError without
    markers."""
    return document.updated(text, _NAME, table)


def _cells(row: QualityRow, result: Result | None) -> tuple[str, ...]:
    title = f"{row.title} ([`{row.recipe.name}`](recipes/{row.recipe.name}))"
    goal = "; ".join(item.text() for item in row.goals)
    if result is None:
        return title, row.published, goal, document.NOT_MEASURED, "", "", ""
    missed = [item for item in row.goals if not item.reached(result.measured[item.measure])]
    names = dict.fromkeys([*(item.measure for item in row.goals), *row.shown])
    measured = "; ".join(MEASURES[name].shown(result.measured[name]) for name in names)
    reached = "yes" if not missed else "no: " + "; ".join(item.text() for item in missed)
    limits = row.limits if missed else ""
    return title, row.published, goal, measured, reached, f"{result.seconds:.1f}", limits
