"""docs/configuration.md: the variables of deploy/env.example, with the bounds the code holds them to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from tasks.settings import Settings

__all__ = ["EXAMPLE", "Variable", "page", "read_example"]

EXAMPLE = Path(__file__).parents[1] / "env.example"

_VARIABLE = re.compile(r"#?(?P<name>[A-Z][A-Z0-9_]+)=(?P<default>.*)")
_INTRODUCTION = """# Configuration

The service and the workers read the same settings, once at start, from environment variables. What is left
out has its default. Sizes are in bytes, times in seconds. `deploy/env.example` is this list, ready to copy.
"""


class Variable(NamedTuple):
    """A line of env.example, with the heading it stands under and the comment right above it."""

    heading: str
    name: str
    default: str
    comment: str


def read_example(text: str) -> Iterator[Variable]:
    heading, comment = "", list[str]()
    for line in text.splitlines():
        if found := _VARIABLE.fullmatch(line):
            yield Variable(heading, found["name"], found["default"], " ".join(comment))
            comment = []
        elif line.startswith("## "):
            heading = line.removeprefix("## ")
        elif line.startswith("# "):
            comment.append(line.removeprefix("# "))
        else:
            comment = []


def page() -> str:
    sections = [_INTRODUCTION]
    for heading, variables in groupby(
        read_example(EXAMPLE.read_text()), key=lambda variable: variable.heading
    ):
        rows = [_row(variable) for variable in variables]
        sections.append(
            "\n".join([f"\n## {heading}\n", "| Variable | Default | |", "| --- | --- | --- |", *rows, ""])
        )
    return "".join(sections)


def _row(variable: Variable) -> str:
    default = f"`{variable.default}`" if variable.default else ""
    text = " ".join(filter(None, [variable.comment, _bound(variable.name)]))
    return f"| `{variable.name}` | {default} | {text} |"


def _bound(name: str) -> str:
    field = Settings.model_fields.get(name.removeprefix("FEATHERWEIGHT_").lower())
    for limit in () if field is None else field.metadata:
        if getattr(limit, "gt", None) is not None:
            return f"Above {limit.gt}."
        if getattr(limit, "ge", None):
            return f"At least {limit.ge}."
    return ""
