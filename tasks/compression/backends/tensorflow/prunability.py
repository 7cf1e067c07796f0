"""What of which layers can be pruned, and why not: by the class's name and the shapes of its kernels.

One table for the handler and for plans; it imports no framework.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from featherweight.spec import Block, NOfM, Prune
from tasks.compression.prunability import pattern_obstacle

__all__ = ["KERNELS", "MATRICES", "NOT_FOR_XNNPACK", "TRANSPOSED_KINDS", "no_pruning", "obstacle"]

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

NOT_FOR_XNNPACK = "XNNPACK's sparse kernels are for 1x1 convolutions"


def no_pruning(kind: str) -> str:
    """Why a layer with matrices of weights and no kernel in the table cannot be pruned."""
    return f"TFMOT has no magnitude pruning for {kind} layers"


def obstacle(kind: str, shapes: Sequence[Sequence[int]], step: Prune) -> str | None:
    """Why the step's pattern cannot be laid on kernels of these shapes; None when it can."""
    if not isinstance(step.pattern, Block | NOfM):
        return None
    if kind not in MATRICES:
        return f"the pattern {step.pattern.type} is for Dense, convolution and recurrent layers"
    for shape in shapes:
        inputs, outputs = reversed(shape[-2:]) if kind in TRANSPOSED_KINDS else shape[-2:]
        why = pattern_obstacle(step, inputs, outputs, math.prod(shape))
        if why is not None:
            return why
    return None
