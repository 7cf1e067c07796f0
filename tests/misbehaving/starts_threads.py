"""Starts a thousand threads, and waits."""

from __future__ import annotations

import threading
import time
from typing import Any


def compress(*_: Any, **__: Any) -> None:
    for _number in range(1000):
        threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
    time.sleep(3600)
