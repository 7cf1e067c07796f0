"""The table of a report: before and after, with the numbers the API gave and none of our own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from featherweight.report import Report, Variant

__all__ = ["report_table"]

Row = Sequence[str]


def report_table(report: Report) -> str:
    """Plain text. The original is the file as uploaded; its latency is that of the uncompressed float
    ``.tflite``, which is what the outputs are compared with."""
    variants = [report.original, *report.outputs]
    rows = [
        ["", *("original" if variant is report.original else variant.name for variant in variants)],
        *_measurements(report, variants),
    ]
    return "\n".join([*_aligned(rows), "", *_aligned(_layers(report)), *_remarks(report)])


def _measurements(report: Report, variants: Sequence[Variant]) -> Iterator[Row]:
    yield ["bytes", *(f"{variant.bytes:,}" for variant in variants)]
    yield ["gzipped bytes", *(f"{variant.gzip_bytes:,}" for variant in variants)]
    original = report.original.gzip_bytes
    yield [
        "gzipped, times smaller",
        "1.0",
        *(f"{original / variant.gzip_bytes:.1f}" for variant in report.outputs),
    ]
    yield [_metric(report), *map(_measured, variants)]
    yield ["latency p50 / p95 ms", *(_latency(variant, report) for variant in variants)]


def _metric(report: Report) -> str:
    measured = report.original.accuracy
    return f"{measured.metric} on {measured.n:,} test samples" if measured else "metric"


def _measured(variant: Variant) -> str:
    measured = variant.accuracy
    if measured is None:
        return "-"
    if measured.method == "wilson":
        return f"{measured.value:.2%} [{measured.low:.2%}, {measured.high:.2%}]"
    return f"{measured.value:.4g} [{measured.low:.4g}, {measured.high:.4g}]"


def _latency(variant: Variant, report: Report) -> str:
    of = report.baseline if variant is report.original and report.baseline else variant
    return f"{of.latency.p50_ms:.3f} / {of.latency.p95_ms:.3f}" if of.latency else "-"


def _layers(report: Report) -> Iterator[Row]:
    yield ["layer", "kind", "parameters", "zeros before", "zeros after"]
    for layer in report.layers:
        yield [
            layer.name,
            layer.kind,
            f"{layer.parameters:,}",
            f"{layer.sparsity_before:.1%}",
            f"{layer.sparsity_after:.1%}" + (f" ({layer.skipped})" if layer.skipped else ""),
        ]


def _remarks(report: Report) -> Iterator[str]:
    yield ""
    host = report.host
    yield f"verdict: {report.verdict}, in {report.seconds:.1f} s on {host.cpu}, {host.cores} cores"
    yield from (f"warning: {warning.message}" for warning in report.warnings)


def _aligned(rows: Iterable[Row]) -> Iterator[str]:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *rest = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join([first, *rest]).rstrip()
