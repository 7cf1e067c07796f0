"""A job's report as a table for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from featherweight.cli.output import columns
from featherweight.report import (
    Difference,
    LayerReport,
    Measurement,
    OperatorCount,
    OutputMeasure,
    Report,
    Variant,
)

__all__ = ["interval", "report_text", "shown", "signed", "signed_interval"]

_WORST = 5


def report_text(report: Report) -> str:
    return "\n\n".join(_sections(report))


def _sections(report: Report) -> Iterator[str]:
    yield f"verdict: {report.verdict.replace('_', ' ')}   ({report.seconds:.1f} s, seed {report.seed})"
    yield _files(report)
    if report.missing:
        yield "\n".join(f"missing: {each.output} ({each.code})" for each in report.missing)
    if any(variant.difference or variant.flipped is not None for variant in report.outputs):
        yield _changes(report)
    if any(variant.by_class for variant in report.outputs):
        yield _classes(report.outputs)
    if any(variant.operators for variant in report.outputs):
        yield _operators(report.outputs)
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
    taken_over = [(step, words) for step in report.steps if (words := step.taken_over)]
    if taken_over:
        yield "\n".join(f"step {step.index}, {step.technique}: {words}" for step, words in taken_over)
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
    head += ["zstd", "non-zero", "distinct", "MACs", "arena"]
    rows = [_file_row(role, variant) for role, variant in files]
    return columns(head, rows, right=[2, 3, 4, 5, *range(7, len(head))])


def _changes(report: Report) -> str:
    """A row for every output of the model and file, against the original."""
    rows = []
    for variant in report.outputs:
        for name, part in _parts(variant):
            rows.append(
                [
                    f"{variant.name}{f' ({name})' if name else ''}",
                    signed(part.difference),
                    signed_interval(part.difference),
                    f"{part.flipped:.2%}" if part.flipped is not None else None,
                    f"{part.calibration_error:.4f}" if part.calibration_error is not None else None,
                ]
            )
    head = ["against the original", "change", "95 % interval, paired", "flipped", "calibration error"]
    return columns(head, rows, right=[1, 3, 4])


def _parts(variant: Variant) -> Iterable[tuple[str, Variant | OutputMeasure]]:
    """Of a model with several outputs every one by its name, else the file itself."""
    return variant.by_output.items() if variant.by_output else [("", variant)]


def signed(change: Difference | None) -> str | None:
    if change is None:
        return None
    return _points(change, change.value)


def signed_interval(change: Difference | None) -> str | None:
    if change is None:
        return None
    return f"{_points(change, change.low)} to {_points(change, change.high)} (n={change.n})"


def _points(change: Difference, value: float) -> str:
    return f"{100 * value:+.2f} points" if change.higher_is_better else f"{value:+.5g}"


def _classes(outputs: Sequence[Variant]) -> str:
    """The classes that lost most, of every file."""
    rows = [
        [variant.name, str(row.label), str(row.n), f"{row.before:.1%}", f"{row.after:.1%}"]
        for variant in outputs
        for row in (variant.by_class or [])[:_WORST]
        if row.change < 0
    ]
    if not rows:
        return "no class lost"
    return columns(["worst classes", "class", "n", "before", "after"], rows, right=[1, 2, 3, 4])


def _operators(outputs: Sequence[Variant]) -> str:
    return "\n".join(
        f"operations of {variant.name}: " + ", ".join(map(_operator, variant.operators))
        for variant in outputs
        if variant.operators
    )


def _operator(operator: OperatorCount) -> str:
    kinds = [f"{operator.in_float} in float"] if operator.in_float else []
    kinds += [f"{operator.hybrid} hybrid"] if operator.hybrid else []
    of = f" ({', '.join(kinds)})" if kinds else ""
    return f"{operator.name} {operator.count}{of}"


def _by_output(report: Report) -> str:
    """A row for every output of the model and file."""
    rows = [
        [name, variant.name, part.accuracy.metric, shown(part.accuracy), interval(part.accuracy)]
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
        shown(file.accuracy),
        interval(file.accuracy),
        f"{latency.p50_ms:.3f}" if latency else None,
        f"{latency.p95_ms:.3f}" if latency else None,
        _count(file.zstd_bytes),
        _count(file.nonzero_parameters),
        _count(file.distinct_weights),
        _count(file.macs),
        _count(file.arena_bytes),
    ]


def _count(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def shown(measured: Measurement | None) -> str | None:
    if measured is None:
        return None
    return f"{measured.value:.2%}" if _is_share(measured) else f"{measured.value:.5g}"


def interval(measured: Measurement | None) -> str | None:
    if measured is None:
        return None
    if _is_share(measured):
        return f"{measured.low:.2%} to {measured.high:.2%} (n={measured.n})"
    return f"{measured.low:.5g} to {measured.high:.5g} (n={measured.n})"


def _is_share(measured: Measurement) -> bool:
    return measured.method == "wilson"


def _layers(layers: list[LayerReport]) -> str:
    head = ["layer", "kind", "parameters", "sparsity before", "after", "target", "stored as", "SNR dB", ""]
    rows = [
        [
            layer.name,
            layer.kind,
            f"{layer.parameters:,}",
            f"{layer.sparsity_before:.1%}",
            f"{layer.sparsity_after:.1%}",
            f"{layer.target_sparsity:.1%}" if layer.target_sparsity is not None else None,
            layer.stored_as,
            f"{layer.snr_db:.1f}" if layer.snr_db is not None else None,
            layer.skipped or (f"from {layer.made_from}" if layer.made_from else ""),
        ]
        for layer in layers
    ]
    return columns(head, rows, right=[2, 3, 4, 5, 7])
