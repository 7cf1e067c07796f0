"""Ends well, with a result that is none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def compress(*_: Any, workdir: Path, **__: Any) -> None:
    (workdir.parent / "result.json").write_text('{"ok": 7}')
    os._exit(0)
