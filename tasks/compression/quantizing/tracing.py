"""The operations of a converted file with the layers that they came from, and how those are stored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.compression.tflite import Operation, operations

__all__ = ["Traced", "stored_types"]


@dataclass(frozen=True)
class Traced:
    """An operation of the converted file; `layer` is the path of a layer, None where unknown."""

    operation: Operation
    layer: str | None


def stored_types(content: bytes, traced: Sequence[Traced]) -> dict[str, str]:
    """The type of every layer's weights in the file `content`, of which `traced` has the operations or those
    of the float file it was made from; ``unknown`` where they are not found, several joined by a plus."""
    stored = {
        name: item.weights.dtype
        for item in operations(content)
        if item.weights is not None and item.kind != "DEQUANTIZE"
        for name in (*item.outputs, _unnumbered(item.weights.name), item.weights.name)
    }
    types: dict[str, set[str]] = {}
    for item in traced:
        weights = item.operation.weights
        if item.layer is None or weights is None:
            continue
        names = (weights.name, *item.operation.outputs, _unnumbered(weights.name))
        dtype = next((stored[name] for name in names if name in stored), "unknown")
        types.setdefault(item.layer, set()).add(dtype)
    return {layer: "+".join(sorted(found)) for layer, found in types.items()}


def _unnumbered(name: str) -> str:
    """The converter numbers tensors of one name, the float file's not as the quantised one's."""
    return re.sub(r"\d+$", "", name)
