"""Multiply-accumulates of the operations of a ``.pt2``, by the conventions of structured.macs."""

from __future__ import annotations

from math import prod

from tasks.compression.outline.facts import Call, Layer, Outline

__all__ = ["macs_of"]

Shape = tuple[int | None, ...]

_PRODUCTS = frozenset({"matmul", "bmm", "mm"})
_RECURRENT = frozenset({"lstm", "gru", "rnn_tanh", "rnn_relu"})
_UNCOUNTED = frozenset({"einsum", "convolution", "baddbmm", "addbmm", "multi_head_attention_forward"})


def macs_of(outline: Outline, layer: Layer, call: Call) -> int | None:
    """Of one call for one sample, sizes left open counted as 1; None where they cannot be told."""
    operation = str(call.keywords.get("operation"))
    given = [outline.tensors[number] or () for number in call.inputs]
    made = [outline.tensors[number] or () for number in call.outputs]
    if operation in _UNCOUNTED:
        return None
    if operation == "scaled_dot_product_attention" and len(given) > 2:
        # Scores of every query with every key, and as many sums of values.
        query, key, value = given[:3]
        return _size(query[1:-1]) * (key[-2] or 1) * ((query[-1] or 1) + (value[-1] or 1))
    kernels = [weight for weight in layer.weights if len(weight.shape) > 1]
    if operation in _PRODUCTS and not kernels and len(given) > 1 and made:
        return _size(made[0][1:]) * (given[0][-1] or 1)
    if not kernels or not given or not made:
        return 0
    if operation in _RECURRENT:
        length = given[0][1] if layer.config.get("batch_first") else given[0][0]
        return sum(weight.size for weight in kernels) * (length or 1)
    size = max(weight.size for weight in kernels)
    if operation in ("linear", "addmm", *_PRODUCTS):
        return size * _size(made[0][1:-1])
    if operation.startswith("conv_transpose"):
        return size * _size(given[0][2:])
    return size * _size(made[0][2:]) if operation.startswith("conv") else 0


def _size(shape: Shape) -> int:
    return prod(size or 1 for size in shape)
