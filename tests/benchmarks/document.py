"""Tables that live between two markers of a document, and the results that they are made of."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

__all__ = ["NOT_MEASURED", "Dated", "line", "markers", "read", "replaced", "table", "updated", "write"]

NOT_MEASURED = "not measured"
_MEASURED = "Measured "


class Dated(Protocol):
    """A result that says where and when it was measured."""

    @property
    def machine(self) -> str: ...
    @property
    def date(self) -> str: ...


def markers(name: str) -> tuple[str, str]:
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def replaced(document: str, name: str, text: str) -> str:
    """`document` with what is between the markers of `name` replaced by `text`; ValueError without them."""
    first, last = markers(name)
    before, begin, rest = document.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise ValueError(f"the document has no {first} … {last}")
    return f"{before}{first}\n{text}{last}{after}"


def updated(document: str, name: str, text: str) -> str:
    """As `replaced`, but a row that says NOT_MEASURED in `text` stays as the document has it, if its cells
    before those words are the same; where one stays, the days and machines of both are told."""
    first, last = markers(name)
    old = document.partition(first)[2].partition(last)[0].splitlines()
    new = text.splitlines()
    rows = [_kept(each, old) for each in new]
    if rows != new:
        days = {each for each in [*old, *new] if each.startswith(_MEASURED)}
        rows = [*sorted(days), *(each for each in rows if not each.startswith(_MEASURED))]
    return replaced(document, name, "\n".join(rows) + "\n")


def _kept(row: str, old: Iterable[str]) -> str:
    same, unmeasured, _ = row.partition(f"| {NOT_MEASURED} |")
    return next((each for each in old if unmeasured and each.startswith(same)), row)


def line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def table(rows: Iterable[Iterable[str]], results: Iterable[Dated]) -> str:
    """Head, alignments and rows under the days and machines that they are of, each told once."""
    when = sorted({f"{result.date} on {result.machine}" for result in results})
    said = "".join(f"{_MEASURED}{text}.\n" for text in when)
    return f"{said}\n" + "\n".join(map(line, rows)) + "\n"


def write(result: Any, folder: Path) -> Path:
    """`result`, a dataclass with a name, as a file of its own: rows can be measured on different days."""
    path = folder / f"{result.name}.json"
    path.write_text(json.dumps(dataclasses.asdict(result), indent=2) + "\n")
    return path


def read(folder: Path) -> Mapping[str, dict[str, Any]]:
    """The fields of every result written there, by name; rows that were never measured are not in it."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return {fields["name"]: fields for fields in found}
