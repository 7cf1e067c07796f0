"""What a quantisation starts from: the float file, its operations and the layers it is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from featherweight.spec import Quantize
from tasks.compression.quantizing.tracing import Traced
from tasks.compression.quantizing.weight_kernels import obstacle
from tasks.compression.samples import Tensors

__all__ = ["Make", "Source", "obstacles", "quantized_layers"]

Make = Callable[[frozenset[str]], bytes]
"""Makes the quantised file with the layers named left in float."""


@dataclass(frozen=True)
class Source:
    """`program` is the model as a float file, `traced` its operations, `predict` the model's own answers to
    samples; `unselected` the paths of the layers that `layers` leaves out; `pointer` is the step's."""

    model: Any
    predict: Callable[[Tensors], Tensors]
    program: bytes
    traced: tuple[Traced, ...]
    unselected: frozenset[str]
    pointer: str


def obstacles(source: Source, step: Quantize, kept: frozenset[str]) -> dict[str, str]:
    """Why selected layers with weights cannot be quantised as asked."""
    found: dict[str, str] = {}
    for item in source.traced:
        if item.layer is None or item.layer in kept or item.operation.weights is None:
            continue
        why = None if step.calibrates_ranges else obstacle(item.operation, step)
        if why is not None:
            found[item.layer] = why
    return found


def quantized_layers(source: Source, step: Quantize, kept: frozenset[str]) -> frozenset[str]:
    """The layers that have weights to quantise when those in `kept` are left in float."""
    return frozenset(
        item.layer
        for item in source.traced
        if item.layer is not None
        and item.operation.weights is not None
        and item.layer not in kept
        and (step.calibrates_ranges or obstacle(item.operation, step) is None)
    )
