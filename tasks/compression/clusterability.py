"""What sharing weights asks of layers, and why weights of a layer are not shared. It imports no framework:
handlers and plans have it in common."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.compression.codebook import Initialization
from tasks.compression.context import Context
from tasks.compression.pending import Sharing

__all__ = ["Request", "chance", "no_sharing", "warn_if_nothing_shared"]


@dataclass(frozen=True)
class Request:
    """What pending cluster steps ask of a layer."""

    sharing: Sharing
    initialization: Initialization
    begin: float


def chance(seed: int, path: str, kernel: int) -> tuple[int, ...]:
    """The seed of what is drawn for one kernel of a layer."""
    return seed, zlib.crc32(path.encode()), kernel


def warn_if_nothing_shared(path: str, counts: Sequence[int], sharing: Sharing, context: Context) -> None:
    """`counts` are those of the distinct weights that share values, the most of any row, of each kernel."""
    if max(counts) <= sharing.clusters:
        where = " in a channel" if sharing.per_channel else ""
        context.warn("nothing_shared", layer=path, count=max(counts), where=where, clusters=sharing.clusters)


def no_sharing(kind: str) -> str:
    """Of a layer with matrices of weights and no kernel that pruning knows."""
    return f"the weights of {kind} layers are not known to bear sharing"
