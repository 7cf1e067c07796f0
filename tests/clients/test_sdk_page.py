"""docs/sdk.md says what the library does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from featherweight import errors
from featherweight.cli import exit_codes
from featherweight.cli.arguments import parser
from featherweight.client import Client
from featherweight.handle import JobHandle
from featherweight.specfile import parse_spec

PAGE = (Path(__file__).parents[2] / "docs" / "sdk.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_exit_codes_are_those_of_the_program() -> None:
    shown = re.findall(r"^\| (\d+) \| (.*) \|$", PAGE, re.MULTILINE)
    explained = re.findall(r"^ *(\d+) +(.*)$", exit_codes.__doc__ or "", re.MULTILINE)
    assert shown == explained


def test_tree_of_errors_names_every_class() -> None:
    drawn = re.findall(r"(?:├──|└──) (\w+)", PAGE)
    classes = [name for name in errors.__all__ if isinstance(getattr(errors, name), type)]
    assert sorted([*drawn, "FeatherweightError"]) == sorted(classes)


def test_spec_is_valid() -> None:
    (spec,) = _blocks("yaml")
    assert [step.technique for step in parse_spec(spec, "the page").steps] == [
        "prune",
        "finetune",
        "quantize",
    ]


@pytest.mark.parametrize("code", _blocks("python"))
def test_python_compiles(code: str) -> None:
    compile(code, "sdk.md", "exec")


def test_calls_exist() -> None:
    client = Client("http://api.test")
    for owner, name in re.findall(r"`client\.(models|datasets|jobs)\.(\w+)\(", PAGE):
        assert callable(getattr(getattr(client, owner), name))
    for name in re.findall(r"`client\.(\w+)\(", PAGE):
        assert callable(getattr(client, name))
    handle = next(line for line in PAGE.split("\n\n") if "A `JobHandle` has" in line).partition(
        "A `JobHandle`"
    )[2]
    for name in re.findall(r"`\.(\w+)", handle):
        assert hasattr(JobHandle, name) or name == "job"
    client.close()


def _command_lines() -> list[str]:
    section = PAGE.partition("## On the command line")[2]
    block = re.search(r"```\n(.*?)```", section, re.DOTALL)
    assert block
    lines = [part for line in block[1].splitlines() for part in re.split(r" {2,}", line)]
    return [line for line in lines if "|" not in line]


@pytest.mark.parametrize("line", _command_lines())
def test_command_line_is_understood(line: str) -> None:
    program, *argv = shlex.split(line)
    assert program == "featherweight"
    assert parser().parse_args(argv).run
