"""What comes of reading a file."""

from __future__ import annotations

from pathlib import Path

from tasks.compression.errors import CompressionError
from tasks.compression.outline.reading import read_outline

__all__ = ["outcome"]


def outcome(path: Path) -> str | None:
    """The code a file is refused with, None when it is read."""
    try:
        read_outline(path)
    except CompressionError as error:
        return error.code
    return None
