"""Which operations have a kernel for weights of few bits, and which layers a scheme cannot take.

One table for the handler and for plans; it imports no framework.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from featherweight.spec import Quantize
from tasks.compression.errors import CompressionError

__all__ = [
    "LEAST_WEIGHTS",
    "LOOPS",
    "none_as_asked",
    "obstacle",
    "refused_loop",
    "refused_loops",
    "weight_bits",
]

LOOPS = ("GRU", "RNN", "SimpleRNN")
"""Their loops crash the converter's calibrator; an LSTM has a fused kernel of its own."""

_DENSE = frozenset({"FULLY_CONNECTED", "EMBEDDING_LOOKUP"})
_KERNELS = {
    16: _DENSE | {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"},
    8: _DENSE | {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "BATCH_MATMUL"},
    4: _DENSE | {"CONV_2D"},
    # The quantiser takes 2-bit convolutions too, but LiteRT's kernel for them answers NaN.
    2: _DENSE,
}
LEAST_WEIGHTS = 1024
"""Of dynamic_int8, as TensorFlow's converter has it."""


class _Weights(Protocol):
    @property
    def shape(self) -> Sequence[int]: ...


class _Operation(Protocol):
    @property
    def kind(self) -> str: ...
    @property
    def weights(self) -> _Weights | None: ...


def weight_bits(step: Quantize) -> int:
    """Of the weights of the schemes that do not calibrate."""
    return {"float16": 16, "dynamic_int8": 8}.get(step.scheme, step.weight_bits)


def obstacle(operation: _Operation, step: Quantize) -> str | None:
    """Why the operation's weights cannot be quantised as `step` says; None when they can."""
    kind, bits, weights = operation.kind, weight_bits(step), operation.weights
    if weights is None:
        return "it has no weights"
    if kind not in _KERNELS[bits]:
        return f"there is no kernel for {kind} with weights of {bits} bits"
    if step.scheme == "dynamic_int8" and math.prod(weights.shape) < LEAST_WEIGHTS:
        return f"dynamic_int8 is for layers of {LEAST_WEIGHTS:,} weights or more; dynamic has no such limit"
    if kind == "DEPTHWISE_CONV_2D" and step.scheme == "dynamic" and step.granularity == "per_tensor":
        # LiteRT takes the file and answers nonsense: its kernel reads a scale for every channel.
        return "there is no dynamic kernel for DEPTHWISE_CONV_2D with one scale for the tensor"
    if step.algorithm == "gptq" and kind != "FULLY_CONNECTED":
        return f"gptq works on dense layers, and this is {kind}"
    if step.algorithm == "hadamard" and kind not in _DENSE:
        return f"hadamard works on dense layers, and this is {kind}"
    if step.algorithm == "hadamard" and weights.shape[-1] % 2:
        return f"hadamard needs an even number of inputs, and there are {weights.shape[-1]}"
    if step.granularity == "blockwise":
        if kind != "FULLY_CONNECTED":
            return f"blocks are for dense layers, and this is {kind}"
        if weights.shape[-1] % step.block_size:
            return f"blocks of {step.block_size} do not divide its {weights.shape[-1]} inputs"
    return None


def refused_loop(kind: str, path: str, step: Quantize, pointer: str) -> CompressionError:
    """For a recurrent layer that runs in a loop, under a scheme that calibrates ranges."""
    return CompressionError(
        "layer_not_supported",
        f"the {kind} layer {path} cannot be converted with {step.scheme}",
        hint="dynamic_int8 stores its weights in 8 bits too",
        layer=path,
        pointer=f"{pointer}/scheme",
    )


def refused_loops(step: Quantize, pointer: str) -> CompressionError:
    """The same for a graph, whose layers have no names."""
    return CompressionError(
        "layer_not_supported",
        f"a graph with loops, as of recurrent layers, cannot be converted with {step.scheme}",
        hint="dynamic_int8 stores its weights in 8 bits too",
        pointer=f"{pointer}/scheme",
    )


def none_as_asked(why: str, pointer: str) -> CompressionError:
    """Where no layer selected can be had."""
    return CompressionError(
        "layer_not_supported",
        f"no layer selected can be quantised as asked: {why}",
        hint="choose other weight_bits, granularity, block_size or algorithm",
        pointer=pointer,
    )
