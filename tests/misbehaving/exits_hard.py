"""Ends with an exit code and without a result."""

from __future__ import annotations

import os
from typing import Any


def compress(*_: Any, **__: Any) -> None:
    os._exit(3)
