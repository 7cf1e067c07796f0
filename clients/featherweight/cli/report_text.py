"""A job's report as a table for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from featherweight.cli.output import columns
from featherweight.report import LayerReport, Measurement, Report, Variant

__all__ = ["report_text"]


def report_text(report: Report) -> str:
    return "\n\n".join(_sections(report))


def _sections(report: Report) -> Iterator[str]:
    yield f"verdict: {report.verdict.replace('_', ' ')}   ({report.seconds:.1f} s, seed {report.seed})"
    yield _files(report)
    if any(variant.by_output for variant in report.outputs):
        yield _by_output(report)
    if report.layers:
        yield _layers(report.layers)
    if report.data:
        data = report.data
        yield (
            f"samples: {data.samples} ({data.train} train, {data.validation} validation, "
            f"{data.calibration} calibration, {data.test} test from the "
            f"{'caller' if data.test_source == 'caller' else 'split'})"
        )
    if report.inferred:
        yield "\n".join(f"inferred: {each.field} = {each.value} ({each.source})" for each in report.inferred)
    if report.warnings:
        yield "\n".join(
            f"warning: {each.message}{f' (layer {each.layer})' if each.layer else ''} [{each.code}]"
            for each in report.warnings
        )


def _files(report: Report) -> str:
    files = [("original", report.original)]
    if report.baseline:
        files.append(("baseline", report.baseline))
    files += [("output", variant) for variant in report.outputs]
    head = ["", "file", "bytes", "gzip", "smaller", _metric(files), "95 % interval", "p50 ms", "p95 ms"]
    return columns(head, [_file_row(role, variant) for role, variant in files], right=[2, 3, 4, 5, 7, 8])


def _by_output(report: Report) -> str:
    """A row for every output of the model and file."""
    rows = [
        [name, variant.name, part.accuracy.metric, _value(part.accuracy), _interval(part.accuracy)]
        for variant in [report.original, *report.outputs]
        for name, part in (variant.by_output or {}).items()
        if part.accuracy is not None
    ]
    return columns(["output", "file", "metric", "", "95 % interval"], sorted(rows, key=_first), right=[3])


def _first(row: Sequence[str | None]) -> str:
    return row[0] or ""


def _metric(files: list[tuple[str, Variant]]) -> str:
    return next((file.accuracy.metric for _, file in files if file.accuracy), "accuracy")


def _file_row(role: str, file: Variant) -> list[str | None]:
    latency = file.latency
    return [
        role,
        file.name + (f" ({file.scheme})" if file.scheme else ""),
        f"{file.bytes:,}",
        f"{file.gzip_bytes:,}",
        f"{file.compression_ratio:.2f}x" if file.compression_ratio is not None else None,
        _value(file.accuracy),
        _interval(file.accuracy),
        f"{latency.p50_ms:.3f}" if latency else None,
        f"{latency.p95_ms:.3f}" if latency else None,
    ]


def _value(measured: Measurement | None) -> str | None:
    if measured is None:
        return None
    return f"{measured.value:.2%}" if _is_share(measured) else f"{measured.value:.5g}"


def _interval(measured: Measurement | None) -> str | None:
    if measured is None:
        return None
    if _is_share(measured):
        return f"{measured.low:.2%} to {measured.high:.2%} (n={measured.n})"
    return f"{measured.low:.5g} to {measured.high:.5g} (n={measured.n})"


def _is_share(measured: Measurement) -> bool:
    return measured.method == "wilson"


def _layers(layers: list[LayerReport]) -> str:
    head = ["layer", "kind", "parameters", "sparsity before", "after", "target", ""]
    rows = [
        [
            layer.name,
            layer.kind,
            f"{layer.parameters:,}",
            f"{layer.sparsity_before:.1%}",
            f"{layer.sparsity_after:.1%}",
            f"{layer.target_sparsity:.1%}" if layer.target_sparsity is not None else None,
            layer.skipped or (f"from {layer.made_from}" if layer.made_from else ""),
        ]
        for layer in layers
    ]
    return columns(head, rows, right=[2, 3, 4, 5])
