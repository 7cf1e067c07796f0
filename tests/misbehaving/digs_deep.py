"""Makes folders in folders, thousands deep, and stays there."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any


def compress(*_: Any, workdir: Path, **__: Any) -> None:
    os.chdir(workdir)
    for _number in range(3000):
        os.mkdir("folder-in-folder")
        os.chdir("folder-in-folder")
    Path("bottom").touch()
    time.sleep(3600)
