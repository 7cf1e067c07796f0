"""A run compared with the last good one of its schedule.

Each output is compared with the one of the same name. The interval of a change between two shares is
Newcombe's (1998, method 10), made of the Wilson intervals that the reports have; that of other metrics is
made of their intervals in the same way. Both take the two runs' samples as independent: of the same test
split, the true interval is narrower, so that what is called a drop is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import hypot
from typing import NamedTuple

from featherweight.report import Measurement, MissingOutput, Report
from featherweight.schedule import Regression, RegressionLimits, RegressionReason
from tasks.compression.outputs import FILES
from tasks.schedules.records import OutputMeasures

__all__ = ["GOOD_VERDICTS", "compare", "measures"]

GOOD_VERDICTS = frozenset({"smaller", "smaller_unverified"})
"""Of a run with another verdict nothing is expected of later ones."""


class _Drop(NamedTuple):
    value: float
    low: float
    high: float


def measures(report: Report) -> list[OutputMeasures]:
    return [
        OutputMeasures(name=output.name, gzip_bytes=output.gzip_bytes, accuracy=output.accuracy)
        for output in report.outputs
    ]


def compare(
    before: Sequence[OutputMeasures],
    after: Sequence[OutputMeasures],
    limits: RegressionLimits,
    *,
    against: str,
    missing: Sequence[MissingOutput] = (),
) -> Regression:
    """`against` is the id of the run that measured `before`; `missing` could not be made this time."""
    good = {output.name: output for output in before}
    reasons = [_missing(output) for output in missing if FILES.get(output.output) in good]
    reasons += [reason for output in after for reason in _reasons(good, output, limits)]
    return Regression(regressed=bool(reasons), against=against, reasons=reasons)


def _missing(output: MissingOutput) -> RegressionReason:
    name = FILES[output.output]
    return RegressionReason(
        code="output_missing", detail=f"{name} could not be made: {output.detail}", output=name
    )


def _reasons(
    good: Mapping[str, OutputMeasures], output: OutputMeasures, limits: RegressionLimits
) -> Iterator[RegressionReason]:
    before = good.get(output.name)
    if before is None:
        return
    if limits.size_growth is not None:
        yield from _growth(before, output, limits.size_growth)
    if limits.accuracy_drop is not None and before.accuracy is not None and output.accuracy is not None:
        yield from _worse(output.name, before.accuracy, output.accuracy, limits.accuracy_drop)


def _growth(before: OutputMeasures, after: OutputMeasures, limit: float) -> Iterator[RegressionReason]:
    change = 100 * (after.gzip_bytes - before.gzip_bytes) / before.gzip_bytes
    if change > limit:
        yield RegressionReason(
            code="size_growth",
            detail=f"{after.name} has grown by {change:.2f} % to {after.gzip_bytes:,} bytes gzipped; "
            f"{limit:g} % are allowed",
            output=after.name,
            before=before.gzip_bytes,
            after=after.gzip_bytes,
            change=change,
            limit=limit,
        )


def _worse(name: str, before: Measurement, after: Measurement, limit: float) -> Iterator[RegressionReason]:
    # Of another metric, or one that means the opposite, nothing can be said.
    if (before.metric, before.higher_is_better) != (after.metric, after.higher_is_better):
        return
    is_share = before.method == "wilson" and after.method == "wilson"
    scale = 1.0 if is_share else abs(before.value)
    if not scale:
        return
    drop = _drop(before, after)
    change, low, high = (100 * value / scale for value in drop)
    if change > limit and low > 0:
        unit = "points" if is_share else "%"
        yield RegressionReason(
            code="accuracy_drop",
            detail=f"{after.metric} of {name} is worse by {change:.2f} {unit} "
            f"(95 % interval {low:.2f} to {high:.2f}); {limit:g} {unit} are allowed",
            output=name,
            metric=after.metric,
            before=before.value,
            after=after.value,
            change=change,
            low=low,
            high=high,
            limit=limit,
        )


def _drop(before: Measurement, after: Measurement) -> _Drop:
    """By how much `after` is worse, in the metric's own unit."""
    larger, smaller = (before, after) if before.higher_is_better else (after, before)
    value = larger.value - smaller.value
    return _Drop(
        value,
        value - hypot(larger.value - larger.low, smaller.high - smaller.value),
        value + hypot(larger.high - larger.value, smaller.value - smaller.low),
    )
