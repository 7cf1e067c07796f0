"""What pruning comes to, whatever the framework: counts of weights, targets, and where patterns fit.

It imports no framework: handlers and plans share it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from featherweight.spec import Block, NOfM, Prune, PruningSchedule

__all__ = [
    "KEEP_ZEROS_FROM",
    "is_global",
    "kept_weights",
    "pattern_obstacle",
    "target",
    "zero_share_of",
    "zero_share_together",
    "zeros_left",
]

KEEP_ZEROS_FROM = 0.05
"""A layer with at least this share of exact zeros was pruned on purpose: training keeps its zeros."""


def is_global(step: Prune) -> bool:
    """Whether the step ranks the weights of all layers together."""
    return step.method in ("global_magnitude", "lamp")


def target(step: Prune, schedule: PruningSchedule) -> float:
    """The sparsity that a layer, or with a global method all layers together, ends with."""
    if isinstance(step.pattern, NOfM):
        return 1.0 - step.pattern.n / step.pattern.m
    return schedule.final_sparsity


def pattern_obstacle(step: Prune, inputs: int, outputs: int, size: int) -> str | None:
    """Why the step's pattern cannot be laid on a kernel of `size` weights in all, `inputs` input and
    `outputs` output channels; None when it can."""
    pattern = step.pattern
    if isinstance(pattern, NOfM) and inputs % pattern.m:
        return f"{pattern.m} does not divide its {inputs} input channels"
    if isinstance(pattern, Block):
        sides = (size // outputs, outputs)
        if any(side % part for side, part in zip(sides, pattern.block_size, strict=True)):
            rows, columns = pattern.block_size
            return f"blocks of {rows}x{columns} do not divide its matrix of {sides[0]}x{sides[1]}"
    return None


def kept_weights(size: int, sparsity: float) -> int:
    """How many of `size` weights stay: TFMOT's count, in its float32 arithmetic."""
    return max(1, int(np.round(np.float32(size) * (np.float32(1.0) - np.float32(sparsity)))))


def zeros_left(counts: Sequence[int], sparsity: float) -> float:
    """The share that goes when of each count `sparsity` leaves what it leaves."""
    return 1.0 - sum(kept_weights(count, sparsity) for count in counts) / sum(counts)


def zero_share_together(sizes: Sequence[int], sparsity: float) -> float:
    """The share of zeros that `sparsity` makes in tensors of these sizes, ranked together: as many weights
    stay as there are tensors, at least."""
    size = sum(sizes)
    return 1.0 - max(len(sizes), kept_weights(size, sparsity)) / size


def zero_share_of(sizes: Sequence[int], step: Prune, sparsity: float) -> float:
    """The share of zeros that `sparsity` makes in tensors of these sizes, each by itself."""
    if isinstance(step.pattern, NOfM):
        return 1.0 - step.pattern.n / step.pattern.m
    if isinstance(step.pattern, Block):
        area = math.prod(step.pattern.block_size)
        sizes = [size // area for size in sizes]
    return zeros_left(sizes, sparsity)
