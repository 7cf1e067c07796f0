"""The tables of the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from featherweight.report import (
    Difference,
    LayerReport,
    Measurement,
    OperatorCount,
    OutputMeasure,
    Report,
    Variant,
)

__all__ = ["changes", "files", "layers", "operators", "parts", "provenance", "table"]

Cell = str | None


def table(head: Sequence[str], rows: Iterable[Sequence[Cell]], *, numbers: Iterable[int] = ()) -> str:
    """`numbers` are the columns set to the right. Every cell is escaped; None is a hyphen."""
    right = set(numbers)

    def row(cells: Sequence[Cell], tag: str, missing: str) -> str:
        return "".join(
            f'<{tag} class="{"number" if index in right else "long"}">{escape(cell or missing)}</{tag}>'
            for index, cell in enumerate(cells)
        )

    body = "".join(f"<tr>{row(cells, 'td', '-')}</tr>" for cells in rows)
    head_row = f"<tr>{row(head, 'th', '')}</tr>"
    return f'<div class="wide"><table><thead>{head_row}</thead><tbody>{body}</tbody></table></div>'


def files(report: Report) -> str:
    variants = [report.original, *([report.baseline] if report.baseline else []), *report.outputs]
    head = [
        "file",
        "scheme",
        "bytes",
        "gzip",
        "zstd",
        "smaller",
        "parameters",
        "non-zero",
        "distinct",
        "MACs",
        "arena",
    ]
    head += ["p50 ms", "p95 ms"]
    return table(head, [_file(item) for item in variants], numbers=range(2, len(head)))


def _file(item: Variant) -> list[Cell]:
    return [
        item.name,
        item.scheme,
        f"{item.bytes:,}",
        f"{item.gzip_bytes:,}",
        _count(item.zstd_bytes),
        None if item.compression_ratio is None else f"{item.compression_ratio:.2f}x",
        _count(item.parameters),
        _count(item.nonzero_parameters),
        _count(item.distinct_weights),
        _count(item.macs),
        _count(item.arena_bytes),
        None if item.latency is None else _milliseconds(item.latency.p50_ms),
        None if item.latency is None else _milliseconds(item.latency.p95_ms),
    ]


def changes(report: Report) -> str:
    head = ["file", "metric", "value", "95 % interval", "change", "95 % interval, paired", "flipped", "ECE"]
    rows = [
        [
            *_change(f"{item.name}: {name}" if name else item.name, part.accuracy, part.difference),
            _share(part.flipped),
            None if part.calibration_error is None else f"{part.calibration_error:.4f}",
        ]
        for item in (report.original, *report.outputs)
        for name, part in parts(item)
    ]
    return table(head, rows, numbers=range(2, len(head)))


def parts(item: Variant) -> Iterable[tuple[str, Variant | OutputMeasure]]:
    """Of a model with several outputs every one by its name, else the file itself."""
    return item.by_output.items() if item.by_output else [("", item)]


def _change(name: str, accuracy: Measurement | None, change: Difference | None) -> list[Cell]:
    value = interval = difference = paired = None
    if accuracy is not None:
        value = _number(accuracy, accuracy.value)
        interval = f"{_number(accuracy, accuracy.low)} to {_number(accuracy, accuracy.high)}"
    if change is not None:
        difference = _points(change, change.value)
        paired = f"{_points(change, change.low)} to {_points(change, change.high)}"
    metric = None if accuracy is None else f"{accuracy.metric} (n={accuracy.n})"
    return [name, metric, value, interval, difference, paired]


def _number(measured: Measurement, value: float) -> str:
    return f"{value:.2%}" if measured.higher_is_better else f"{value:.5g}"


def _points(change: Difference, value: float) -> str:
    return f"{100 * value:+.2f} pp" if change.higher_is_better else f"{value:+.5g}"


def layers(layers: Sequence[LayerReport]) -> str:
    head = [
        "layer",
        "kind",
        "shape",
        "parameters",
        "MACs",
        "zeros before",
        "after",
        "stored as",
        "SNR dB",
        "",
    ]
    rows = [
        [
            layer.name,
            layer.kind,
            None if layer.shape is None else " x ".join(map(str, layer.shape)),
            f"{layer.parameters:,}",
            _count(layer.macs),
            _share(layer.sparsity_before),
            _share(layer.sparsity_after),
            layer.stored_as,
            None if layer.snr_db is None else f"{layer.snr_db:.1f}",
            layer.skipped or (f"from {layer.made_from}" if layer.made_from else " "),
        ]
        for layer in layers
    ]
    return table(head, rows, numbers=(3, 4, 5, 6, 8))


def operators(counts: Iterable[OperatorCount]) -> str:
    rows = [[item.name, str(item.count), str(item.in_float), str(item.hybrid)] for item in counts]
    return table(["operation", "count", "in float", "hybrid"], rows, numbers=(1, 2, 3))


def provenance(report: Report) -> str:
    rows: list[list[Cell]] = [
        [file.role, file.name, f"{file.bytes:,}", file.sha256] for file in (*report.inputs, *report.files)
    ]
    digests = table(["", "file", "bytes", "sha256"], rows, numbers=(2,))
    host = report.host
    facts = [
        ["seed", str(report.seed)],
        [
            "processor",
            f"{host.cpu}, {host.cores} cores, {host.memory_bytes / 2**30:.1f} GiB, {host.platform}",
        ],
        *([["sandbox", host.sandbox]] if host.sandbox else []),
        *([name, version] for name, version in report.versions.items()),
    ]
    return digests + table(["", ""], facts)


def _count(value: int | None) -> Cell:
    return None if value is None else f"{value:,}"


def _milliseconds(value: float) -> str:
    return f"{value:.3f}" if value >= 0.1 else f"{value:.3g}"


def _share(value: float | None) -> Cell:
    return None if value is None else f"{value:.1%}"
