"""Makes the folder of its outputs a link to one of the machine."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.misbehaving import Outcome, Report


def compress(*_: Any, workdir: Path, **__: Any) -> Outcome:
    with suppress(PermissionError):
        (workdir / "out").symlink_to("/etc")
    return Outcome(Report(), (workdir / "out" / "passwd",))
