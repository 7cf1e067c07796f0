"""Aborts like a library that got no memory."""

from __future__ import annotations

import os
import sys
from typing import Any


def compress(*_: Any, **__: Any) -> None:
    print("terminate called after throwing an instance of 'std::bad_alloc'", file=sys.stderr, flush=True)
    os.abort()
