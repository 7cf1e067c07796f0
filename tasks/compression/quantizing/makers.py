"""Quantised files of a source, with some of its layers left in float."""

from __future__ import annotations

from featherweight.spec import Quantize
from tasks.compression.quantizing.lowbits import obstacle, quantize_weights
from tasks.compression.quantizing.source import Source, obstacles
from tasks.compression.quantizing.weight_kernels import none_as_asked
from tasks.compression.samples import Tensors

__all__ = ["by_weights"]


def by_weights(source: Source, step: Quantize, samples: Tensors | None, kept: frozenset[str]) -> bytes:
    """The weights of every operation that is not of a layer in `kept` and has a kernel, by litert-quantizer.
    `samples` are what ``gptq`` is calibrated on. CompressionError layer_not_supported where there is none,
    conversion_failed."""
    chosen = [
        item.operation
        for item in source.traced
        if item.layer not in kept and obstacle(item.operation, step) is None
    ]
    if not chosen:
        why = next(iter(obstacles(source, step, kept).values()), "none of them has weights")
        raise none_as_asked(why, source.pointer)
    return quantize_weights(source.program, step, chosen, samples)
