"""The operations of a ``.tflite`` that PyTorch's layers become."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.compression.outline.facts import Layer, Outline

__all__ = ["in_file", "is_exact", "ranks", "single_channels"]

_EXACT = frozenset({"Linear", "Conv2d"})
"""Classes of which one operation with the layer's weight comes, whatever is around it."""


def ranks(outline: Outline) -> dict[str, int]:
    """How many axes the first input of each layer has."""
    found: dict[str, int] = {}
    for call in outline.calls:
        shape = outline.tensors[call.inputs[0]] if call.inputs else None
        found.setdefault(call.layer, 0 if shape is None else len(shape))
    return found


def single_channels(layer: Layer) -> bool:
    """Whether it is a convolution whose filters see one channel each, one of a single channel among them."""
    weight = layer.weight("weight")
    return layer.kind in ("Conv1d", "Conv2d") and weight is not None and weight.shape[1] == 1


def in_file(layer: Layer) -> tuple[str, tuple[int, ...]] | None:
    """The operation that has the layer's weight, and how LiteRT stores that: inputs last. None for layers
    that become several, or none of their own."""
    weight = layer.weight("weight")
    if weight is None or len(weight.shape) < 2:
        return None
    outputs, inputs, *sizes = weight.shape
    if layer.kind == "Linear":
        return "FULLY_CONNECTED", (outputs, inputs)
    if layer.kind in ("Conv1d", "Conv2d"):
        across = (1, *sizes) if layer.kind == "Conv1d" else tuple(sizes)
        if single_channels(layer):
            return "DEPTHWISE_CONV_2D", (1, *across, outputs)
        return "CONV_2D", (outputs, *across, inputs)
    if layer.kind == "ConvTranspose2d":
        return "TRANSPOSE_CONV", (inputs, *sizes, outputs)
    return None


def is_exact(layer: Layer, axes: Mapping[str, int]) -> bool:
    """Whether the file has the layer's weight as `in_file` says in any case: a matrix that is laid on every
    place of a sequence, and a convolution in groups, may become something else."""
    if layer.kind not in _EXACT:
        return False
    if layer.kind == "Linear":
        return axes.get(layer.path) == 2
    return int(layer.config.get("groups", 1)) == 1 or single_channels(layer)
