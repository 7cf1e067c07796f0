"""The page as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from featherweight.report import Report
from tasks.compression.page import charts, tables
from tasks.compression.page.styles import STYLES

__all__ = ["MAX_BYTES", "page"]

MAX_BYTES = 2_000_000
"""A page as large as this would come of thousands of layers; see `page`."""

MAX_TABLE_LAYERS = 2_000
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
    yield f"<h2>Files</h2>\n{tables.files(report)}"
    if report.original.accuracy or any(item.accuracy for item in report.outputs):
        yield f"<h2>What changed</h2>\n{tables.changes(report)}{_samples(report)}"
    figures = "\n".join(_figures(report))
    if figures:
        yield f'<h2>Charts</h2>\n<div class="charts">\n{figures}\n</div>'
    yield from _layers(report)
    for item in report.outputs:
        if item.operators:
            yield f"<h2>Operations of {escape(item.name)}</h2>\n{tables.operators(item)}"
    yield f"<h2>Provenance</h2>\n{tables.provenance(report)}"


def _warnings(report: Report) -> Iterator[str]:
    if report.warnings:
        items = "\n".join(
            f"<li>{escape(item.message)}{escape(f' (layer {item.layer})') if item.layer else ''} "
            f"<code>{escape(item.code)}</code></li>"
            for item in report.warnings
        )
        yield f'<h2>Warnings</h2>\n<ul class="warnings">\n{items}\n</ul>'


def _samples(report: Report) -> str:
    data = report.data
    if data is None:
        return ""
    return (
        f'<p class="dim">{data.samples:,} samples: {data.train:,} to train, {data.validation:,} to validate, '
        f"{data.calibration:,} of the former to calibrate, {data.test:,} to test, which nothing else saw.</p>"
    )


def _figures(report: Report) -> Iterator[str]:
    drawn = [
        (charts.size_and_metric(report), "Size against the metric, with 95 % intervals"),
        *((charts.by_class(item), f"{item.name}: classes, the worst first") for item in report.outputs),
        *((charts.training(step), f"Step {step.index}, {step.technique}") for step in report.steps),
        (charts.by_layer(report), _layer_caption(report)),
    ]
    for svg, caption in drawn:
        if svg is not None:
            yield f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


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
