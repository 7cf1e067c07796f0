"""The files of a SavedModel in its archive: those that belong, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tasks.compression.datasets.archives import Bounds as ArchiveBounds
from tasks.compression.datasets.archives import members as archived
from tasks.compression.errors import CompressionError
from tasks.compression.outline.bounds import Bounds

__all__ = ["ASSET", "GRAPH", "INDEX", "KERAS", "members"]

GRAPH: Final = "saved_model.pb"
KERAS: Final = "keras_metadata.pb"
INDEX: Final = "variables/variables.index"
ASSET: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}"

_MEMBERS = 1000
_ALWAYS_BYTES = 64 << 20
_TOP = r"(?:(?P<top>[^/]{1,255})/)?"
_BELONGS = re.compile(
    rf"{_TOP}(?P<name>saved_model\.pb|keras_metadata\.pb|fingerprint\.pb|variables/variables\.index"
    rf"|variables/variables\.data-[0-9]{{5}}-of-[0-9]{{5}}|assets/{ASSET})"
)
_PBTXT = re.compile(rf"{_TOP}saved_model\.pbtxt")


def members(path: Path, bounds: Bounds) -> Iterator[tuple[str, bytes]]:
    """(name without the top folder, content) of each file. CompressionError archive_member_not_allowed for
    members that do not belong or lie outside the one folder, archive_duplicate_member, and of the archive;
    unsupported_model without a graph."""
    top: str | None = None
    seen: set[str] = set()
    within = ArchiveBounds(
        members=_MEMBERS, member_bytes=bounds.weight_bytes, always_bytes=_ALWAYS_BYTES, nested=True
    )
    for member in archived(path, within):
        found = _BELONGS.fullmatch(member.name)
        if found is None:
            raise _foreign(member.name)
        name, folder = found["name"], found["top"] or ""
        if top is not None and folder != top:
            raise _refused(f"{member.name!r} lies in another folder than the rest")
        if name in seen:
            raise CompressionError("archive_duplicate_member", f"the archive has two members {name}")
        top = folder
        seen.add(name)
        yield name, member.content
    if GRAPH not in seen:
        raise CompressionError(
            "unsupported_model",
            f"the archive has no {GRAPH}: it is no SavedModel",
            hint="pack the folder that model.export() or tf.saved_model.save() made",
        )


def _foreign(name: str) -> CompressionError:
    if _PBTXT.fullmatch(name):
        return _refused(
            "saved_model.pbtxt is not read", "save it again: tf.saved_model.save writes saved_model.pb"
        )
    return _refused(
        f"{name[:100]!r} does not belong in a SavedModel",
        "pack its folder alone: saved_model.pb, keras_metadata.pb, fingerprint.pb, variables and assets",
    )


def _refused(why: str, hint: str | None = None) -> CompressionError:
    return CompressionError("archive_member_not_allowed", f"the archive is not read: {why}", hint=hint)
