"""Which layer of the Keras model each operation of its converted file came from.

The converter names tensors for the operations it fused, ``model/conv/Relu;model/conv/Conv2D``, and an
operation of the model keeps the path of its layer in that name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tasks.compression.backends.tensorflow.layers import placed_layers
from tasks.compression.quantizing.tracing import Traced
from tasks.compression.tflite import operations

__all__ = ["trace"]


def trace(model: Any, content: bytes) -> list[Traced]:
    """The operations of `content`, which was converted from `model`, with their layers."""
    paths = {_scope(place.path): place.path for place in placed_layers(model)}
    matrices = {
        place.path for place in placed_layers(model) if any(len(w.shape) > 1 for w in place.layer.weights)
    }
    return [
        Traced(operation, _layer(operation.names, paths, matrices, f"{_scope(model.name)}/"))
        for operation in operations(content)
    ]


def _layer(names: Sequence[str], paths: dict[str, str], matrices: set[str], prefix: str) -> str | None:
    """The first layer with a matrix of weights that is named, else the first layer: a convolution that took
    a normalisation in is the convolution's."""
    parts = [part.removeprefix(prefix) for name in names for part in name.split(";")]
    found = [path for part in parts if (path := _path(part, paths)) is not None]
    return next((path for path in found if path in matrices), found[0] if found else None)


def _path(part: str, paths: dict[str, str]) -> str | None:
    pieces = part.split("/")
    for length in range(len(pieces), 0, -1):
        scope = "/".join(pieces[:length])
        # A layer called again gets a number: conv, then conv_1.
        for candidate in (scope, re.sub(r"_\d+$", "", scope)):
            if candidate in paths:
                return paths[candidate]
    return None


def _scope(path: str) -> str:
    """As TensorFlow writes a name."""
    return re.sub(r"[^A-Za-z0-9_.\\/>-]", "_", path)
