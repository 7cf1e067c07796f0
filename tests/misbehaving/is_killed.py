"""Is ended by the kernel, as when the machine is out of memory."""

from __future__ import annotations

import os
import signal
from typing import Any


def compress(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
