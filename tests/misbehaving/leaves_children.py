"""Starts processes of its own and goes on without end."""

from __future__ import annotations

import os
import time
from typing import Any

from featherweight.events import LogEvent


def compress(*_: Any, emit: Any, **__: Any) -> None:
    child = os.fork()
    if child == 0:
        time.sleep(3600)
        os._exit(0)
    emit(LogEvent(message=f"pid {child}"))
    emit(LogEvent(message=f"pid {os.getpid()}"))
    time.sleep(3600)
