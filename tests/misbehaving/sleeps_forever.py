"""Never ends by itself, but leaves its pid in the log."""

from __future__ import annotations

import os
import time
from typing import Any

from featherweight.events import LogEvent


def compress(*_: Any, emit: Any, **__: Any) -> None:
    emit(LogEvent(message=f"pid {os.getpid()}"))
    time.sleep(3600)
