"""Takes its time to import, and leaves a mark when it runs all the same."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests.misbehaving import Outcome, made

WARM_S = 2.0


def warm() -> None:
    time.sleep(WARM_S)


def compress(*_: Any, workdir: Path, **__: Any) -> Outcome:
    (workdir.parents[1] / "ran").touch()
    return made(workdir, model__tflite="x")
