"""What the command writes: results to standard output, everything said to people to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from pydantic import BaseModel

from featherweight.errors import APIError, InvalidSpec, JobError

__all__ = ["Output", "clean", "columns"]


class Output:
    """With `as_json`, standard output carries JSON and nothing else."""

    def __init__(self, *, as_json: bool, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.as_json = as_json
        self._out = out or sys.stdout
        self._err = err or sys.stderr

    def result(self, value: Any, text: str) -> None:
        """`value` as JSON or, for people, `text`."""
        self._write(json.dumps(_plain(value), indent=2, ensure_ascii=False) if self.as_json else clean(text))

    def line(self, value: Any, text: str) -> None:
        """One of many: a line of JSON, or of text, at once."""
        self._write(json.dumps(_plain(value), ensure_ascii=False) if self.as_json else clean(text))
        self._out.flush()

    def note(self, text: str) -> None:
        self._err.write(clean(text) + "\n")
        self._err.flush()

    def advice(self, text: str) -> None:
        """For people alone."""
        if not self.as_json:
            self.note(text)

    def error(self, error: Exception) -> None:
        """On standard error; one line of JSON with `as_json`."""
        if self.as_json:
            self._err.write(json.dumps({"error": _as_value(error)}, ensure_ascii=False) + "\n")
        else:
            self.note(f"featherweight: {error}")

    def _write(self, text: str) -> None:
        if text:
            self._out.write(text + "\n")


def columns(head: Sequence[str], rows: Sequence[Sequence[Any]], *, right: Sequence[int] = ()) -> str:
    """A table in plain text. The columns numbered in `right` are flush right."""
    cells = [list(head), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def clean(text: str) -> str:
    """Without control characters: names and logs come from elsewhere and could drive the terminal."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def _cell(value: Any) -> str:
    return "-" if value is None else clean(str(value)).replace("\n", " ")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _as_value(error: Exception) -> dict[str, Any]:
    value: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
    if isinstance(error, APIError | JobError) and error.problem is not None:
        value["problem"] = _plain(error.problem)
    if isinstance(error, InvalidSpec):
        value["errors"] = _plain(error.errors)
        value["lines"] = error.lines
    return value
