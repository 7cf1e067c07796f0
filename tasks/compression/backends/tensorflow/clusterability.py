"""Why weights of a layer are not shared, for the handler and for plans. It imports no framework."""

from __future__ import annotations

from tasks.compression.errors import CompressionError

__all__ = ["no_sharing", "refused"]


def no_sharing(kind: str) -> str:
    """Of a layer with matrices of weights and no kernel in prunability's table."""
    return f"the weights of {kind} layers are not known to bear sharing"


def refused(path: str, why: str, pointer: str) -> CompressionError:
    """For a step that says ``error`` and selects such a layer."""
    return CompressionError(
        "layer_not_supported",
        f"the layer {path} was selected for clustering: {why}",
        hint="exclude it, or set on_unsupported to skip",
        layer=path,
        pointer=f"{pointer}/layers",
    )
