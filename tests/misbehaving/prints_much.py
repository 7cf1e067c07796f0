"""Prints much more than a log may hold, then ends well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.misbehaving import Outcome, made


def compress(*_: Any, workdir: Path, **__: Any) -> Outcome:
    print("the beginning")
    for _number in range(100_000):
        print("all work and no play makes jack a dull boy")
    print("the end")
    return made(workdir, model__tflite="x")
