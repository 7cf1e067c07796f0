"""Which operators of ONNX have weights that ONNX Runtime stores narrow. Imports no framework."""

from __future__ import annotations

from featherweight.spec import Quantize
from tasks.compression.errors import CompressionError

__all__ = ["DYNAMIC", "none_narrow", "obstacle", "stored_as"]

DYNAMIC = ("MatMul", "Gemm", "LSTM", "Gather", "Attention")
"""What ONNX Runtime has kernels for that quantise activations while running: its ConvInteger takes no int8
weights on the CPU."""

_STATIC = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Gather"})


def stored_as(kind: str, step: Quantize) -> str:
    """The type of an operator's narrow weights. Tables that are looked up in become activations, which are
    unsigned where they are quantised while running."""
    if step.scheme == "float16":
        return "float16"
    return "uint8" if kind == "Gather" and not step.calibrates_ranges else "int8"


def obstacle(kind: str, step: Quantize) -> str | None:
    """Why the weights of an operator stay float; None where they do not."""
    if step.scheme == "float16":
        return None
    takes = _STATIC if step.calibrates_ranges else DYNAMIC
    return None if kind in takes else f"ONNX Runtime quantises no {kind} with {step.scheme}"


def none_narrow(why: str | None, pointer: str) -> CompressionError:
    """Where no layer selected can be had as asked."""
    return CompressionError(
        "layer_not_supported",
        f"no layer selected can be quantised as asked: {why or 'none of them has weights'}",
        hint="full_int8 takes convolutions too, float16 everything",
        pointer=pointer,
    )
