"""What the report says of a quantised file."""

from __future__ import annotations

from collections.abc import Iterable

from featherweight.spec import Quantize
from tasks.compression.context import Context
from tasks.compression.quantizing.source import Source, obstacles
from tasks.compression.quantizing.tracing import stored_types
from tasks.compression.tflite import weight_types

__all__ = ["account"]

_NARROW = frozenset(["float16", "int2", "int4", "int8"])


def account(
    content: bytes,
    source: Source,
    kept: frozenset[str],
    step: Quantize,
    context: Context,
    matrices: Iterable[str],
) -> None:
    """The type every layer's weights have in the file goes into the report; a layer that was selected and
    is float all the same is said. `matrices` are the layers with weights of two axes or more: what is
    quantised operation by operation misses those that could not be traced."""
    types = stored_types(content, source.traced)
    context.record.details["layers"] = types
    why = obstacles(source, step, kept)
    for layer, dtype in types.items():
        if layer in kept and dtype != "float32":
            context.warn("not_left_float", layer=layer, dtype=dtype)
        elif layer not in kept and "float32" in dtype:
            context.warn("left_float", layer=layer, why=why.get(layer, "the converter has no kernel for it"))
    if step.scheme in ("weight_only", "dynamic") or (kept and not step.calibrates_ranges):
        for layer in (path for path in matrices if path not in types and path not in kept):
            context.warn("left_float", layer=layer, why="its operations cannot be told apart in the file")
    # Layers that could not be traced count by what the file holds.
    if set(types.values()) == {"float32"} and not _NARROW & weight_types(content).keys():
        context.warn("nothing_changed", index=context.index, technique=step.technique)
    context.record.details.update(scheme=step.scheme, bytes=len(content), tensors=weight_types(content))
