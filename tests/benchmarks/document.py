"""Tables that live between two markers of a document, and the results that they are made of."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Dated", "line", "markers", "read", "replaced", "table", "write"]


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


def line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def table(rows: Iterable[Iterable[str]], results: Iterable[Dated]) -> str:
    """Head, alignments and rows under the days and machines that they are of, each told once."""
    when = sorted({f"{result.date} on {result.machine}" for result in results})
    said = "".join(f"Measured {text}.\n" for text in when)
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
