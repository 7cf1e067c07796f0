"""Multiply-accumulates of ONNX's operators, by the conventions of structured.macs."""

from __future__ import annotations

from math import prod

from tasks.compression.outline.facts import Call, Layer, Outline

__all__ = ["macs_of"]

Shape = tuple[int | None, ...]

_UNCOUNTED = frozenset({"Einsum", "Attention"})
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})


def macs_of(outline: Outline, layer: Layer, call: Call) -> int | None:
    """Of one call for one sample, sizes left open counted as 1; None where they cannot be told."""
    if layer.kind in _UNCOUNTED:
        return None
    if layer.kind not in ("Conv", "ConvTranspose", "Gemm", "MatMul", *_RECURRENT):
        return 0
    given = [outline.tensors[number] for number in call.inputs]
    made = [outline.tensors[number] for number in call.outputs]
    first, second = [*given, None, None][:2]
    result = made[0] if made else None
    if first is None or second is None:
        return None
    if layer.kind in _RECURRENT:
        # (time, samples, size) of inputs, (directions, gates, size) of both kernels.
        kernels = [shape for shape in given[1:3] if shape is not None and len(shape) == 3]
        return (first[0] or 1) * sum(map(_size, kernels))
    if layer.kind == "ConvTranspose":
        return _size(second) * _size(first[2:])
    if layer.kind == "Gemm":
        return _size(second)
    if result is None:
        return None
    if layer.kind == "Conv":
        return _size(second) * _size(result[2:])
    return _size(result[1:]) * (first[-1] or 1) if first else None


def _size(shape: Shape) -> int:
    return prod(size or 1 for size in shape)
