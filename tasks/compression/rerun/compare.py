"""What a report says of a file against what was found: field by field, each with its tolerance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from featherweight.report import Variant
from featherweight.rerun import Compared

__all__ = ["DIGEST", "MEASURED", "compared", "one"]

SHARE = 0.005
"""Of accuracies and other shares, where the arithmetic may not be the same: half a point, and one sample at
least."""

ERROR = 0.01
"""Of mean errors there: a hundredth of the original's."""

PACKED = 0.01
"""Of sizes as gzip and zstd pack them, relative: other versions of them pack a little otherwise."""

DIGEST = ("bytes", "sha256", "gzip_bytes", "zstd_bytes")
"""What is said of a file by its bytes."""

MEASURED = ("accuracy", "difference", "flipped", "calibration_error", "by_class", "by_output")
"""What is said of a file by its answers."""

_PACKED = frozenset({"gzip_bytes", "zstd_bytes", "compression_ratio"})
_NOT_AGAIN = ("agreement", "max_abs_difference")
_OF_BOTH = frozenset({"difference", "flipped", "by_class"})


def compared(
    name: str, reported: Variant, found: Variant, fields: Sequence[str], *, exact: bool, scale: float | None
) -> list[Compared]:
    """The `fields` of what was `reported` of the file `name`. What the file does by itself must be the same
    to the last digit when it is `exact`; what compares with the original has the tolerances. `scale` is the
    original's mean error, None where shares are measured.

    A field that the report leaves null is not compared: it may be older than the field."""
    ours = dict(_flat(_chosen(found, fields)))
    return [
        one(name, field, value, ours.get(field), _tolerance(field, reported, exact=exact, scale=scale))
        for field, value in _flat(_chosen(reported, fields))
    ]


def one(name: str, field: str, reported: Any, found: Any, tolerance: float | None = None) -> Compared:
    """A single value; what is no number, or has no tolerance, must be equal."""
    number = isinstance(reported, float) or tolerance is not None
    if number and isinstance(found, int | float):
        agrees = math.isclose(reported, found, rel_tol=1e-12, abs_tol=tolerance or 0.0)
        return Compared(
            file=name,
            field=field,
            reported=reported,
            found=found,
            tolerance=tolerance or 0.0,
            agrees=agrees,
        )
    return Compared(file=name, field=field, reported=reported, found=found, agrees=reported == found)


def _chosen(variant: Variant, fields: Sequence[str]) -> dict[str, Any]:
    dump = variant.model_dump(mode="json")
    return {field: dump[field] for field in fields if dump.get(field) is not None}


def _flat(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every single value with its place; rows of lists go by what they are about."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if item is not None and name not in _NOT_AGAIN:
                yield from _flat(item, f"{place}/{name}" if place else str(name))
    elif isinstance(value, list):
        for row in value:
            key = row.get("label", row.get("name"))
            rest = {name: item for name, item in row.items() if name not in ("label", "name")}
            yield from _flat(rest, f"{place}/{key}")
    else:
        yield place, value


def _tolerance(field: str, reported: Variant, *, exact: bool, scale: float | None) -> float | None:
    parts = field.split("/")
    if parts[0] in _PACKED:
        return PACKED * float(getattr(reported, parts[0]))
    if parts[0] not in MEASURED or parts[-1] in ("n", "metric", "method", "higher_is_better", "confidence"):
        return None
    if exact and not _OF_BOTH.intersection(parts):
        return 0.0
    if "by_class" in parts:
        return max(SHARE, 1.0 / _samples_of_class(field, reported))
    if scale is not None and "calibration_error" not in parts and "flipped" not in parts:
        return ERROR * scale
    return max(SHARE, 1.0 / _samples(reported))


def _samples(reported: Variant) -> int:
    return max(1, reported.accuracy.n) if reported.accuracy is not None else 1


def _samples_of_class(field: str, reported: Variant) -> int:
    """Of the class that a place such as ``by_class/3/after`` is about."""
    *_, label, _ = field.split("/")
    outputs = reported.by_output or {}
    part = next((item for name, item in outputs.items() if f"/{name}/" in f"/{field}"), reported)
    counts = {str(row.label): row.n for row in part.by_class or ()}
    return max(1, counts.get(label, 1))
