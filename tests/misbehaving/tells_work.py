"""Delivers a list of what it found in its working folder, by digest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from tests.misbehaving import Outcome, made


def compress(*_: Any, workdir: Path, **__: Any) -> Outcome:
    found = {
        str(path.relative_to(workdir)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(workdir.rglob("*"))
        if path.is_file()
    }
    (workdir / "checkpoints").mkdir(exist_ok=True)
    (workdir / "checkpoints" / "writable.npz").touch()
    return made(workdir, found__json=json.dumps(found))
