"""The MLPerf Tiny table, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tests.benchmarks import document
from tests.benchmarks.tiny.results import Result
from tests.benchmarks.tiny.rows import TinyRow

__all__ = ["markdown", "replaced"]

_NAME = "tiny"

_HEAD = (
    "network and file",
    "job",
    "zeros",
    "`.tflite`, gzipped",
    "published int8, gzipped",
    "metric, of n test samples",
    "original → delivered",
    "change, 95 % interval",
    "published int8",
    "flipped",
    "float → int8",
    "seconds",
    "report",
)
_JOBS = {"pruned": "pruned 50 %, trained, int8", "int8": "int8"}
_SHARES = ("accuracy", "agreement")


def markdown(rows: Iterable[TinyRow], results: Mapping[str, Result]) -> str:
    """All rows; one without a result says so."""
    cells = [_cells(row, results.get(row.name)) for row in rows]
    return document.table(
        [_HEAD, ["---"] * 2 + ["---:"] * 3 + ["---"] + ["---:"] * 6 + ["---"], *cells], results.values()
    )


def replaced(text: str, table: str) -> str:
    """`text` with `table` between the markers, rows without a result as they were; ValueError without
    markers."""
    return document.updated(text, _NAME, table)


def _cells(row: TinyRow, result: Result | None) -> tuple[str, ...]:
    title, job = f"{row.model.title} (`{row.model.file.rpartition('/')[2]}`)", _JOBS[row.job]
    if result is None:
        return (title, job, document.NOT_MEASURED, *[""] * (len(_HEAD) - 3))
    return (
        title,
        job,
        f"{result.zeros:.1%}",
        f"{result.bytes:,} B, {result.gzip_bytes:,} B",
        f"{result.reference_bytes:,} B, {result.reference_gzip_bytes:,} B",
        f"{result.metric.replace('_', ' ')}, {result.n:,}",
        " → ".join(filter(None, (_shown(result, result.before), _shown(result, result.after)))),
        _change(result),
        _shown(result, result.reference),
        "" if result.flipped is None else f"{result.flipped:.1%}",
        f"{result.float_ms:.3f} → {result.ms:.3f} ms",
        f"{result.seconds:.1f}",
        "complete" if not result.gaps else f"lacks {', '.join(result.gaps)}",
    )


def _shown(result: Result, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1%}" if _is_share(result) else f"{value:.3f}"


def _change(result: Result) -> str:
    if result.change is None:
        return ""
    value, low, high = result.change
    if _is_share(result):
        return f"{100 * value:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"


def _is_share(result: Result) -> bool:
    return any(word in result.metric for word in _SHARES) and "error" not in result.metric
