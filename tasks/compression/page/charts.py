"""The charts of a report, drawn by matplotlib as SVG to be put into a page.

Text stays text and takes the page's font; black becomes ``currentColor``, so that a chart is read on light
and on dark. Names come from callers: matplotlib escapes them, and its own mark-up (``$…$``) is turned off.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from featherweight.report import (
    ClassChange,
    LayerReport,
    Measurement,
    OutputMeasure,
    Report,
    StepReached,
    StepReport,
    Variant,
)

__all__ = ["by_class", "by_layer", "size_and_metric", "training"]

MAX_LAYERS = 60
MAX_CLASSES = 30
_BLUE, _ORANGE, _GREEN, _RED = "#3b82c4", "#d9822b", "#3aa675", "#d4574a"
_COLOURS = (_BLUE, _ORANGE, _GREEN, _RED, "#8b6fc0", "#a0785a")
_LEGEND_LETTERS = 54  # of a line of the legend, its lines and gaps aside
_LEGEND_ROW = 0.17  # inches
P = ParamSpec("P")
T = TypeVar("T")

_INK = "#010203"  # nothing else has this colour: it stands for the page's own
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "featherweight",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"), _INK
    ),
    "legend.frameon": False,
}


def _styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Our style for all of a drawing: some of it is looked up when a text is made, some when it is saved."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> T:
        from matplotlib import rc_context

        with rc_context(_STYLE):
            return draw(*args, **kwargs)

    return drawn


@_styled
def size_and_metric(report: Report, output: str = "") -> str | None:
    """Gzipped size against the metric with its interval, of the original and every file; of a model with
    several outputs that of the one named."""
    files = [("original", report.original), *((item.name, item) for item in report.outputs)]
    measured = [
        (name, item, accuracy) for name, item in files if (accuracy := _accuracy(item, output)) is not None
    ]
    if len(measured) < 2:
        return None
    figure, axes = _figure(5.2, 3.4)
    _way(axes, report, output)
    for place, (name, item, accuracy) in enumerate(measured):
        low, high = accuracy.value - accuracy.low, accuracy.high - accuracy.value
        colour = _COLOURS[place % len(_COLOURS)]
        label = f"{name} ({item.scheme})" if item.scheme else name
        errors = [[max(low, 0)], [max(high, 0)]]
        x = item.gzip_bytes / 1000
        axes.errorbar([x], [accuracy.value], yerr=errors, fmt="o", color=colour, capsize=4, label=label)
    axes.set_xscale("log")
    axes.set_xlabel("gzipped size, kB (logarithmic)")
    axes.set_ylabel(measured[0][2].metric.replace("_", " "))
    _plain_ticks(axes)
    axes.margins(0.15)
    _legend_above(axes)
    return _svg(figure)


def _way(axes: Any, report: Report, output: str) -> None:
    """From the original over the steps to the last one."""
    before = _accuracy(report.original, output)
    points = [] if before is None else [(report.original.gzip_bytes, before.value)]
    for step in report.steps:
        reached = _accuracy(step.reached, output) if step.reached is not None else None
        if reached is not None and step.reached is not None:
            points.append((step.reached.gzip_bytes, reached.value))
            spot = (points[-1][0] / 1000, points[-1][1])
            text = f"{step.index} {step.technique}"
            axes.annotate(text, spot, (4, -9), textcoords="offset points", fontsize=7, alpha=0.8)
    if len(points) > 1:
        sizes, values = [size / 1000 for size, _ in points], [value for _, value in points]
        axes.plot(
            sizes, values, ":", marker="o", markersize=3.5, color=_INK, alpha=0.6, label="after each step"
        )


def _accuracy(item: Variant | StepReached, output: str) -> Measurement | None:
    if not output:
        return item.accuracy
    part = (item.by_output or {}).get(output)
    return part.accuracy if isinstance(part, OutputMeasure) else part


@_styled
def by_layer(report: Report) -> str | None:
    """Sparsity of the layers, and beside it the signal to noise ratio where it was measured."""
    layers = report.layers[:MAX_LAYERS]
    if not layers:
        return None
    rated = any(layer.snr_db is not None for layer in layers)
    figure, axes = _figure(5.2, 1.1 + 0.22 * len(layers), columns=2 if rated else 1)
    places = range(len(layers))
    sparsity = axes[0] if rated else axes
    sparsity.barh(places, [100 * layer.sparsity_after for layer in layers], color=_BLUE, height=0.65)
    befores = [100 * layer.sparsity_before for layer in layers]
    sparsity.plot(befores, places, "|", color=_ORANGE, markersize=9, markeredgewidth=2, label="before")
    sparsity.set_yticks(places, [_short(layer.name) for layer in layers])
    sparsity.set_xlim(0, 100)
    sparsity.set_xlabel("zeros, %")
    sparsity.invert_yaxis()
    sparsity.grid(axis="y", visible=False)
    _legend_above(sparsity)
    if rated:
        _ratios(axes[1], layers)
    return _svg(figure)


def _ratios(axes: Any, layers: Sequence[LayerReport]) -> None:
    # No difference at all is 200 dB, which would leave nothing to see of the others.
    values = [min(layer.snr_db or 0.0, 100.0) for layer in layers]
    axes.barh(range(len(layers)), values, color=_GREEN, height=0.65)
    axes.set_yticks(range(len(layers)), [])
    axes.set_xlabel("SNR against float, dB")
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)


@_styled
def by_class(changes: Sequence[ClassChange]) -> str | None:
    """The classes whose share of right answers changed most for the worse."""
    rows = [row for row in changes if row.change][:MAX_CLASSES]
    if not rows:
        return None
    figure, axes = _figure(5.2, 1.1 + 0.22 * len(rows))
    points = [100 * row.change for row in rows]
    axes.barh(range(len(rows)), points, color=[_RED if each < 0 else _GREEN for each in points], height=0.65)
    axes.set_yticks(range(len(rows)), [f"class {row.label}" for row in rows])
    axes.axvline(0, color=_INK, linewidth=0.8)
    axes.set_xlabel("change of right answers, percentage points")
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    return _svg(figure)


@_styled
def training(step: StepReport) -> str | None:
    """The metrics of a training's epochs: losses on the left axis, all else on the right."""
    if not step.epochs:
        return None
    names = list(dict.fromkeys(name for epoch in step.epochs for name in epoch.metrics))
    names = [name for name in names if name != "learning_rate"]
    figure, axes = _figure(5.2, 3.2)
    other = axes.twinx() if _some(names, loss=True) and _some(names, loss=False) else axes
    places = range(1, len(step.epochs) + 1)
    lines = []
    for index, name in enumerate(names):
        values = [epoch.metrics.get(name, float("nan")) for epoch in step.epochs]
        target = axes if "loss" in name else other
        style = "--" if name.startswith("val_") else "-"
        colour = _COLOURS[index % len(_COLOURS)]
        lines += target.plot(places, values, style, marker=".", color=colour, label=name)
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss" if _some(names, loss=True) else "")
    if other is not axes:
        other.grid(visible=False)
        other.spines["right"].set_visible(True)
    axes.xaxis.get_major_locator().set_params(integer=True)
    _legend_above(axes, lines)
    return _svg(figure)


def _some(names: Sequence[str], *, loss: bool) -> bool:
    return any(("loss" in name) is loss for name in names)


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"…{name[-27:]}"


def _figure(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    """Inches. Without pyplot, which keeps figures and looks for a screen."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.subplots(1, columns)


def _legend_above(axes: Any, lines: Sequence[Any] | None = None) -> None:
    """Where it hides nothing, in as many columns as the figure is wide enough for; the figure grows by it."""
    handles, labels = axes.get_legend_handles_labels()
    if lines is not None:
        handles, labels = list(lines), [str(line.get_label()) for line in lines]
    labels = [_short(label) for label in labels]
    columns = max(1, min(3, len(labels), _LEGEND_LETTERS // max(map(len, labels), default=1)))
    figure = axes.get_figure()
    figure.set_figheight(figure.get_figheight() + _LEGEND_ROW * -(-len(labels) // columns))
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "fontsize": 8}
    axes.legend(handles, labels, ncols=columns, **place)


def _plain_ticks(axes: Any) -> None:
    """1, 2 and 5 of every decade, written out."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _svg(figure: Any) -> str:
    """The element alone: without the XML declaration, the date and matplotlib's own style block."""
    held = io.StringIO()
    for drawn in (figure, *figure.axes):
        drawn.patch.set_facecolor("none")
    # Not `savefig`, which draws everything once more beforehand to lay it out; drawing does that itself.
    figure.canvas.print_svg(held, metadata={"Date": None, "Creator": None})
    text = held.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = text.replace(_INK, "currentColor").replace("'DejaVu Sans'", "inherit")
    return text.strip()
