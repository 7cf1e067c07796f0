"""Does not want to go."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from featherweight.events import LogEvent


def compress(*_: Any, emit: Any, **__: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    emit(LogEvent(message=f"pid {os.getpid()}"))
    while True:
        time.sleep(1)
