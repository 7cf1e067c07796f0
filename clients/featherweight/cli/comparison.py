"""Two reports side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from featherweight.cli.output import columns
from featherweight.cli.report_text import interval, shown, signed, signed_interval
from featherweight.report import Report, ReportWarning, Variant

__all__ = ["comparison_text"]


def comparison_text(first: Report, second: Report) -> str:
    return "\n\n".join(_sections(first, second))


def _sections(first: Report, second: Report) -> Iterator[str]:
    if _model(first) != _model(second):
        yield "The reports are of different models: sizes and differences do not compare like with like."
    elif _test(first) != _test(second):
        yield "The reports measured on different samples: their accuracies are not of the same test."
    rows: list[list[str | None]] = [
        ["job", first.job_id, second.job_id],
        ["verdict", *(each.verdict.replace("_", " ") for each in (first, second))],
        ["seconds", *(f"{each.seconds:.1f}" for each in (first, second))],
        *_files(first, second),
    ]
    yield columns(["", "first", "second"], rows)
    for name, ours, theirs in (("first", first, second), ("second", second, first)):
        only = _only(ours.warnings, theirs.warnings)
        if only:
            yield "\n".join(f"warning of the {name} alone: {text}" for text in only)


def _model(report: Report) -> str | None:
    return next((file.sha256 for file in report.inputs if file.role == "model"), None)


def _test(report: Report) -> tuple[object, ...]:
    data = next((file.sha256 for file in report.inputs if file.role == "dataset"), None)
    return (data, report.seed, report.spec.get("split"), report.data and report.data.test)


def _files(first: Report, second: Report) -> Iterator[list[str | None]]:
    """The rows of the original, then of every output that either has, by its name."""
    yield from _file("original", first.original, second.original)
    ours, theirs = ({item.name: item for item in report.outputs} for report in (first, second))
    for name in dict.fromkeys((*ours, *theirs)):
        yield from _file(name, ours.get(name), theirs.get(name))


def _file(name: str, first: Variant | None, second: Variant | None) -> Iterator[list[str | None]]:
    pair = (first, second)
    cells: dict[str, list[str | None]] = {
        "scheme": [item.scheme if item else None for item in pair],
        "bytes": [f"{item.bytes:,}" if item else None for item in pair],
        "gzip": [f"{item.gzip_bytes:,}" if item else None for item in pair],
        "zstd": [_count(item.zstd_bytes) if item else None for item in pair],
        "non-zero": [_count(item.nonzero_parameters) if item else None for item in pair],
        "MACs": [_count(item.macs) if item else None for item in pair],
        "arena bytes": [_count(item.arena_bytes) if item else None for item in pair],
        _metric(pair): [shown(item.accuracy) if item else None for item in pair],
        "95 % interval": [interval(item.accuracy) if item else None for item in pair],
        "change": [signed(item.difference) if item else None for item in pair],
        "95 % interval, paired": [signed_interval(item.difference) if item else None for item in pair],
        "flipped": [f"{item.flipped:.2%}" if item and item.flipped is not None else None for item in pair],
        "p50 ms": [f"{item.latency.p50_ms:.3f}" if item and item.latency else None for item in pair],
        "p95 ms": [f"{item.latency.p95_ms:.3f}" if item and item.latency else None for item in pair],
    }
    for label, values in cells.items():
        if any(value is not None for value in values):
            yield [f"{name}: {label}", *values]


def _metric(pair: Sequence[Variant | None]) -> str:
    names = [item.accuracy.metric for item in pair if item and item.accuracy]
    return " / ".join(dict.fromkeys(names)) or "accuracy"


def _count(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def _only(warnings: Sequence[ReportWarning], others: Sequence[ReportWarning]) -> list[str]:
    """Those whose code the other report does not have for that layer."""
    known = {(other.code, other.layer) for other in others}
    return [
        f"{each.message}{f' (layer {each.layer})' if each.layer else ''} [{each.code}]"
        for each in warnings
        if (each.code, each.layer) not in known
    ]
