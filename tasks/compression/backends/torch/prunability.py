"""What of which layers can be pruned, and why not: by the class's name and the shapes of its kernels.

It imports no framework.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from featherweight.spec import Prune, XnnpackLatency
from tasks.compression.errors import CompressionError
from tasks.compression.prunability import pattern_obstacle

__all__ = [
    "DEPTHWISE",
    "EMBEDDINGS",
    "KERNELS",
    "TRANSPOSED_KINDS",
    "is_depthwise",
    "no_pruning",
    "obstacle",
    "refuse_xnnpack",
]

_CONVOLUTIONS = ("Conv1d", "Conv2d", "Conv3d")

TRANSPOSED_KINDS = frozenset(["ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"])
"""Classes whose kernels begin with [input channels, output channels]; of others it is the other way round."""

EMBEDDINGS = frozenset(["Embedding", "EmbeddingBag"])
"""Classes whose kernels are tables [entries, features], and no matrices that inputs are multiplied by."""

KERNELS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys([*_CONVOLUTIONS, *sorted(TRANSPOSED_KINDS), "Linear", *sorted(EMBEDDINGS)], ("weight",)),
    **dict.fromkeys(["RNN", "LSTM", "GRU"], ("weight_ih_l", "weight_hh_l", "weight_hr_l")),
    "MultiheadAttention": (
        *("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"),
        "out_proj.weight",
    ),
}
"""The parameters that magnitude pruning applies to, by class: their names, or of recurrent layers, which may
be stacked, what the names begin with."""

DEPTHWISE = "depthwise "
"""Said before the class of a convolution whose filters see one channel each: it has a handful of weights for
a channel, and is left alone."""


def is_depthwise(groups: int, channels: int) -> bool:
    """Of a convolution in `groups` of `channels` input channels."""
    return groups == channels > 1


def no_pruning(kind: str) -> str:
    """Why a layer with matrices of weights and no kernel in the table cannot be pruned."""
    return f"there is no magnitude pruning for {kind} layers"


def obstacle(kind: str, shapes: Sequence[Sequence[int]], step: Prune) -> str | None:
    """Why the step's pattern cannot be laid on kernels of these shapes; None when it can."""
    if step.pattern.type not in ("block", "n_of_m"):
        return None
    if kind in EMBEDDINGS:
        return f"the pattern {step.pattern.type} is for Linear, convolution, attention and recurrent layers"
    for shape in shapes:
        inputs, outputs = shape[:2] if kind in TRANSPOSED_KINDS else (shape[1], shape[0])
        why = pattern_obstacle(step, inputs, outputs, math.prod(shape))
        if why is not None:
            return why
    return None


def refuse_xnnpack(step: Prune, pointer: str) -> None:
    """CompressionError layer_not_supported for the pattern that no PyTorch model is faster with."""
    if isinstance(step.pattern, XnnpackLatency):
        raise CompressionError(
            "layer_not_supported",
            "XNNPACK's sparse kernels cannot run the model: they need the channels of images last, and a "
            ".tflite that is made of a PyTorch model has operations between its convolutions that they "
            "do not know",
            hint="prune with the pattern unstructured, or whole channels with the technique prune_channels",
            pointer=f"{pointer}/pattern",
        )
