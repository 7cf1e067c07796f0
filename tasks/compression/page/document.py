"""The page as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from featherweight.report import ClassChange, OperatorCount, Report
from tasks.compression.page import charts, tables
from tasks.compression.page.styles import STYLES

__all__ = ["MAX_BYTES", "page"]

MAX_BYTES = 2_000_000
"""A page as large as this would come of thousands of layers; see `page`."""

MAX_TABLE_LAYERS = 2_000
MAX_OUTPUTS = 12
MAX_CLASS_CHARTS = 12
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_TONES = {"smaller": "good", "smaller_unverified": "warn"}


def page(report: Report) -> str:
    """One HTML document, under 2 MB, with everything in it. The tables stop at 2,000 layers, and say so."""
    title = f"Featherweight report{f' · {report.job_id}' if report.job_id else ''}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLES}</style>\n</head>\n<body>\n"
        + "\n".join(_sections(report, title))
        + "\n</body>\n</html>\n"
    )


def _sections(report: Report, title: str) -> Iterator[str]:
    tone = _TONES.get(report.verdict, "bad")
    yield (
        f"<h1>{escape(title)}</h1>\n"
        f'<p><span class="verdict {tone}">{escape(report.verdict.replace("_", " "))}</span> '
        f'<span class="dim">· {report.created_at:%Y-%m-%d %H:%M} UTC · {report.seconds:.1f} s · '
        f"{escape(', '.join(step.technique for step in report.steps) or 'no steps')}</span></p>"
    )
    yield from _warnings(report)
    yield from _taken_over(report)
    yield f"<h2>Files</h2>\n{tables.files(report)}{_missing(report)}"
    if report.original.accuracy or any(item.accuracy for item in report.outputs):
        yield f"<h2>What changed</h2>\n{tables.changes(report)}{_samples(report)}"
    figures = "\n".join(_figures(report))
    if figures:
        yield f'<h2>Charts</h2>\n<div class="charts">\n{figures}\n</div>'
    yield from _layers(report)
    yield from _operators(report)
    yield f"<h2>Provenance</h2>\n{tables.provenance(report)}"


def _warnings(report: Report) -> Iterator[str]:
    if report.warnings:
        items = "\n".join(
            f"<li>{escape(item.message)}{escape(f' (layer {item.layer})') if item.layer else ''} "
            f"<code>{escape(item.code)}</code></li>"
            for item in report.warnings
        )
        yield f'<h2>Warnings</h2>\n<ul class="warnings">\n{items}\n</ul>'


def _missing(report: Report) -> str:
    if not report.missing:
        return ""
    rows = [[each.output, each.code, each.layer, each.detail] for each in report.missing]
    return f"\n<h3>Missing</h3>\n{tables.table(['output', 'code', 'layer', 'why'], rows)}"


def _taken_over(report: Report) -> Iterator[str]:
    for step in report.steps:
        if step.taken_over is not None:
            yield (
                f'<p class="dim">Step {step.index}, {escape(step.technique)}: {escape(step.taken_over)}.</p>'
            )


def _samples(report: Report) -> str:
    data = report.data
    if data is None:
        return ""
    return (
        f'<p class="dim">{data.samples:,} samples: {data.train:,} to train ({data.calibration:,} of them to '
        f"calibrate), {data.validation:,} to validate, {data.test:,} to test, which nothing else saw.</p>"
    )


def _figures(report: Report) -> Iterator[str]:
    drawn = [
        *_sizes(report),
        *_classes(report),
        *((charts.training(step), f"Step {step.index}, {step.technique}") for step in report.steps),
        (charts.by_layer(report), _layer_caption(report)),
    ]
    for svg, caption in drawn:
        if svg is not None:
            yield f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _sizes(report: Report) -> Iterator[tuple[str | None, str]]:
    caption = "Size against the metric, with 95 % intervals"
    outputs = list(report.original.by_output or {})
    if not outputs:
        yield charts.size_and_metric(report), caption
    for name in outputs[:MAX_OUTPUTS]:
        yield charts.size_and_metric(report, name), f"{name}: {caption[0].lower()}{caption[1:]}"


def _classes(report: Report) -> Iterator[tuple[str | None, str]]:
    """A chart for each file and output, one for files that changed alike."""
    names: dict[tuple[str, tuple[ClassChange, ...]], list[str]] = {}
    for item in report.outputs:
        for output, part in tables.parts(item):
            names.setdefault((output, tuple(part.by_class or ())), []).append(item.name)
    for (output, rows), files in list(names.items())[:MAX_CLASS_CHARTS]:
        of = f", output {output}" if output else ""
        yield charts.by_class(rows), f"{_joined(files)}{of}: classes, the worst first"


def _operators(report: Report) -> Iterator[str]:
    """A table for each program, one for files that hold the same."""
    names: dict[tuple[OperatorCount, ...], list[str]] = {}
    for item in report.outputs:
        if item.operators:
            names.setdefault(tuple(item.operators), []).append(item.name)
    for operators, files in names.items():
        yield f"<h2>Operations of {escape(_joined(files))}</h2>\n{tables.operators(operators)}"


def _joined(names: list[str]) -> str:
    *rest, last = names
    return f"{', '.join(rest)} and {last}" if rest else last


def _layer_caption(report: Report) -> str:
    shown = len(report.layers) if len(report.layers) <= charts.MAX_LAYERS else charts.MAX_LAYERS
    of = "" if shown == len(report.layers) else f", the first {shown} of {len(report.layers)}"
    return f"Layers, zeros and signal to noise{of}"


def _layers(report: Report) -> Iterator[str]:
    if not report.layers:
        return
    yield f"<h2>Layers</h2>\n{tables.layers(report.layers[:MAX_TABLE_LAYERS])}"
    if len(report.layers) > MAX_TABLE_LAYERS:
        yield f'<p class="dim">{len(report.layers) - MAX_TABLE_LAYERS:,} more stand in report.json.</p>'
