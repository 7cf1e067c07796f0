"""Which schemes the formats beside LiteRT's can hold. Imports no framework."""

from __future__ import annotations

from collections.abc import Iterable

from featherweight.spec import OutputFormat, Quantize
from tasks.compression.errors import CompressionError

__all__ = ["QUANTISED", "lacking", "none_offered"]

QUANTISED: tuple[OutputFormat, ...] = ("tflite", "c_array", "onnx", "pt2", "pte")
"""The formats that can hold integers, of which tflite and c_array hold every scheme."""

_TITLES: dict[str, str] = {"onnx": "ONNX", "pt2": "an exported program", "pte": "ExecuTorch"}
_SCHEMES: dict[str, frozenset[str]] = {
    "onnx": frozenset({"full_int8", "dynamic_int8", "dynamic", "float16"}),
    "pt2": frozenset({"full_int8", "dynamic_int8", "dynamic"}),
    "pte": frozenset({"full_int8", "dynamic_int8", "dynamic"}),
}


def lacking(output: str, step: Quantize) -> str | None:
    """Why an output of a PyTorch model cannot be had as `step` says; None where it can."""
    if output in ("tflite", "c_array"):
        return None
    if output not in _SCHEMES:
        return f"{output} holds float weights alone"
    title = _TITLES[output]
    if step.scheme not in _SCHEMES[output]:
        return f"{title} is not made with {step.scheme} here, but with {', '.join(sorted(_SCHEMES[output]))}"
    if step.scheme == "dynamic" and (step.weight_bits != 8 or step.algorithm != "min_max"):
        return f"{title} is made with weights of 8 bits and min_max alone"
    if step.granularity == "blockwise":
        return f"{title} has no blockwise weights"
    return None


def none_offered(reasons: Iterable[str | None], pointer: str) -> CompressionError:
    """For a step that no output can be had as."""
    return CompressionError(
        "unsupported_output",
        f"no output can be quantised as asked: {next(filter(None, reasons))}",
        hint="ask for the output tflite too, or choose another scheme",
        pointer=pointer,
    )
