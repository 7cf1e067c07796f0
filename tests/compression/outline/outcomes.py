"""What comes of reading a file."""

from __future__ import annotations

from pathlib import Path

from tasks.compression.errors import CompressionError
from tasks.compression.outline.reading import read_outline

__all__ = ["REFUSALS", "outcome"]

REFUSALS = frozenset(
    {
        *("bad_model", "unsupported_model", "bad_h5", "h5_external_reference", "h5_too_large"),
        *("archive_bomb", "archive_path_not_allowed", "archive_duplicate_member", "archive_encrypted"),
        *("archive_link_not_allowed", "archive_special_file", "bad_archive", "layer_not_allowed"),
    }
)


def outcome(path: Path) -> str | None:
    """The code a file is refused with, None when it is read."""
    try:
        read_outline(path)
    except CompressionError as error:
        return error.code
    return None
