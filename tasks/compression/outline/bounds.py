"""How much of a stranger's file is looked at before it is refused."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.compression.errors import CompressionError

__all__ = ["Bounds", "too_large"]


@dataclass(frozen=True)
class Bounds:
    """`json_bytes` bounds each configuration, `weight_bytes` all weights together as numbers, not as stored;
    `members` the files of an archive and `objects` the groups and arrays of an HDF5 file, `depth` how deep
    models and groups are nested, `calls` how often layers are called, `operations` those of a TensorFlow
    graph."""

    json_bytes: int = 64 << 20
    weight_bytes: int = 2 << 30
    members: int = 10_000
    objects: int = 100_000
    layers: int = 20_000
    calls: int = 50_000
    operations: int = 1_000_000
    depth: int = 32
    axes: int = 32


def too_large(what: str) -> CompressionError:
    return CompressionError(
        "bad_model", f"the model file has {what}", hint="what a trained Keras model holds is well below this"
    )
