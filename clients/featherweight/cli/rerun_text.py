"""An evaluation that was run again, for people."""

from __future__ import annotations

from typing import Any

from featherweight.cli.output import columns
from featherweight.rerun import Compared, Rerun

__all__ = ["rerun_text"]


def rerun_text(again: Rerun) -> str:
    """What differs, and else how much agrees; what was not compared."""
    lines = [f"measured again on {again.host.cpu}: {_outcome(again)}"]
    if again.differing:
        rows = [[item.file or "report", item.field, *_values(item)] for item in again.differing]
        lines.append(columns(["differs", "", "reported", "found", "tolerance"], rows, right=[2, 3, 4]))
    if again.exact:
        lines.append(f"to the last digit: {', '.join(again.exact)}")
    lines += [f"not compared: {sentence}" for sentence in again.left_out]
    return "\n".join(lines)


def _outcome(again: Rerun) -> str:
    count = len(again.compared)
    if again.agrees:
        return f"all {count} values of the report agree"
    return f"{len(again.differing)} of {count} values of the report do not agree"


def _values(item: Compared) -> list[str | None]:
    tolerance = None if item.tolerance is None else f"{item.tolerance:g}"
    return [_shown(item.reported), _shown(item.found), tolerance]


def _shown(value: Any) -> str | None:
    return f"{value:.6g}" if isinstance(value, float) else None if value is None else str(value)
