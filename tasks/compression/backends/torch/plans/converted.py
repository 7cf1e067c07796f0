"""Which layers and operators the converters of PyTorch models were seen to take.

Those of the networks in docs/models.md, and for ExecuTorch of the smaller ones that the tests run in it. Of
others only the job tells.
"""

from __future__ import annotations

from tasks.compression.outline.facts import Outline

__all__ = ["untried"]

_DENSE = frozenset({"Conv2d", "BatchNorm2d", "ReLU", "Linear", "Dropout", "flatten", "unsqueeze"})
_CONVERTED = _DENSE | frozenset(
    [
        *("AdaptiveAvgPool2d", "ConvTranspose2d", "Embedding", "GELU", "GRU", "GroupNorm", "Hardsigmoid"),
        *("Hardswish", "LayerNorm", "LeakyReLU", "LogSoftmax", "MaxPool2d", "ReLU6", "Sigmoid", "add", "cat"),
        *("contiguous", "expand", "mean", "mul", "operation", "permute", "reshape", "select", "squeeze"),
        *("scaled_dot_product_attention", "sym_size", "transpose", "unflatten", "view", "zeros"),
    ]
)
_BY_OUTPUT = {"tflite": _CONVERTED, "c_array": _CONVERTED, "onnx": _CONVERTED, "pte": _DENSE}


def untried(outline: Outline, output: str) -> list[str]:
    """The kinds of layers and the operators of which only the conversion tells whether `output` takes them:
    PyTorch's own format takes all."""
    known = _BY_OUTPUT.get(output)
    return [] if known is None else sorted({layer.kind for layer in outline.layers} - known)
