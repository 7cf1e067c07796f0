"""Which layers' outputs distillation can match: the same for the handler and for plans."""

from __future__ import annotations

from tasks.compression.errors import CompressionError

__all__ = ["refused_feature"]


def refused_feature(path: str, pointer: str) -> CompressionError:
    """For a layer within a nested model."""
    return CompressionError(
        "layer_not_supported",
        f"the layer {path} is within a nested model, whose inner outputs cannot be matched",
        hint="name a layer outside of it",
        layer=path,
        pointer=pointer,
    )
