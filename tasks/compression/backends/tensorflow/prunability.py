"""What of which layers can be pruned, and why not: by the class's name and the shapes of its kernels.

One table for the handler and for plans; it imports no framework.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from featherweight.spec import Block, NOfM, Prune, PruningSchedule
from tasks.compression.errors import CompressionError

__all__ = [
    "KEEP_ZEROS_FROM",
    "KERNELS",
    "MATRICES",
    "NOT_FOR_XNNPACK",
    "TRANSPOSED_KINDS",
    "is_global",
    "kept_weights",
    "no_pruning",
    "obstacle",
    "refused",
    "target",
    "zero_share_of",
]

_RECURRENT = ("kernel", "recurrent_kernel")

KERNELS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(["Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose", "Conv3DTranspose"], ("kernel",)),
    **dict.fromkeys(["LocallyConnected1D", "LocallyConnected2D", "Dense"], ("kernel",)),
    **dict.fromkeys(["SeparableConv1D", "SeparableConv2D"], ("pointwise_kernel",)),
    "Embedding": ("embeddings",),
    **dict.fromkeys(["LSTM", "GRU", "SimpleRNN"], _RECURRENT),
}
"""The weights that magnitude pruning applies to, by class: TFMOT's registry. MultiHeadAttention is in it with
the kernels of its four projections."""

MATRICES = frozenset(
    [
        *("Dense", "Conv1D", "Conv2D", "Conv3D", "SeparableConv1D", "SeparableConv2D"),
        *("Conv2DTranspose", "Conv3DTranspose", "SimpleRNN", "LSTM", "GRU"),
    ]
)
"""Classes whose kernels are matrices [everything else, output channels]: patterns can be laid on them."""

TRANSPOSED_KINDS = frozenset(["Conv2DTranspose", "Conv3DTranspose"])
"""Classes whose kernels end in [output channels, input channels]; those of others are the other way round."""

KEEP_ZEROS_FROM = 0.05
"""A layer with at least this share of exact zeros was pruned on purpose: training keeps its zeros."""

NOT_FOR_XNNPACK = "XNNPACK's sparse kernels are for 1x1 convolutions"


def is_global(step: Prune) -> bool:
    """Whether the step ranks the weights of all layers together."""
    return step.method in ("global_magnitude", "lamp")


def target(step: Prune, schedule: PruningSchedule) -> float:
    """The sparsity that a layer, or with a global method all layers together, ends with."""
    if isinstance(step.pattern, NOfM):
        return 1.0 - step.pattern.n / step.pattern.m
    return schedule.final_sparsity


def no_pruning(kind: str) -> str:
    """Why a layer with matrices of weights and no kernel in the table cannot be pruned."""
    return f"TFMOT has no magnitude pruning for {kind} layers"


def obstacle(kind: str, shapes: Sequence[Sequence[int]], step: Prune) -> str | None:
    """Why the step's pattern cannot be laid on kernels of these shapes; None when it can."""
    pattern = step.pattern
    if not isinstance(pattern, Block | NOfM):
        return None
    if kind not in MATRICES:
        return f"the pattern {pattern.type} is for Dense, convolution and recurrent layers"
    for shape in shapes:
        inputs, outputs = reversed(shape[-2:]) if kind in TRANSPOSED_KINDS else shape[-2:]
        if isinstance(pattern, NOfM):
            if inputs % pattern.m:
                return f"{pattern.m} does not divide its {inputs} input channels"
            continue
        sides = (math.prod(shape) // outputs, outputs)
        if any(side % part for side, part in zip(sides, pattern.block_size, strict=True)):
            rows, columns = pattern.block_size
            return f"blocks of {rows}x{columns} do not divide its matrix of {sides[0]}x{sides[1]}"
    return None


def refused(path: str, why: str, pointer: str) -> CompressionError:
    """For a step that says ``error`` and selects a layer that cannot be pruned."""
    return CompressionError(
        "layer_not_supported",
        f"the layer {path} was selected for pruning: {why}",
        hint="exclude it, or set on_unsupported to skip",
        layer=path,
        pointer=f"{pointer}/layers",
    )


def kept_weights(size: int, sparsity: float) -> int:
    """How many of `size` weights stay: TFMOT's count, in its float32 arithmetic."""
    return max(1, int(np.round(np.float32(size) * (np.float32(1.0) - np.float32(sparsity)))))


def zero_share_of(sizes: Sequence[int], step: Prune, sparsity: float) -> float:
    """The share of zeros that `sparsity` makes in tensors of these sizes, each by itself."""
    if isinstance(step.pattern, NOfM):
        return 1.0 - step.pattern.n / step.pattern.m
    if isinstance(step.pattern, Block):
        area = math.prod(step.pattern.block_size)
        sizes = [size // area for size in sizes]
    return 1.0 - sum(kept_weights(size, sparsity) for size in sizes) / sum(sizes)
