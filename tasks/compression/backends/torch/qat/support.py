"""Which layers can learn to be rounded, by the names of their classes.

One table for the handler and for plans; it imports no framework.
"""

from __future__ import annotations

__all__ = ["FOLDED_INTO", "MOVED", "NORMS", "RECTIFIERS", "obstacle"]

FOLDED_INTO = frozenset({"Conv1d", "Conv2d", "ConvTranspose2d", "Linear"})
"""What has a matrix of weights, which LiteRT computes as one with a normalisation after it."""

NORMS = frozenset({"BatchNorm1d", "BatchNorm2d"})
RECTIFIERS = frozenset({"ReLU", "ReLU6"})
"""What LiteRT computes as one with the matrix or the sum before it."""

MOVED = frozenset(
    ["MaxPool1d", "MaxPool2d", "Flatten", "Unflatten", "Dropout", "Dropout1d", "Dropout2d", "Identity"]
)
"""What gives the values that it was given, so that nothing is rounded after it."""

_COMPUTED = frozenset(
    [
        *("AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AvgPool1d", "AvgPool2d", "GELU", "Hardsigmoid"),
        *("Hardswish", "Hardtanh", "LeakyReLU", "Sigmoid", "SiLU", "Softmax", "Tanh"),
    ]
)


def obstacle(kind: str, groups: int) -> str | None:
    """Why a layer of the class, with so many `groups`, cannot be rounded in training; None where it can."""
    if kind == "ConvTranspose2d" and groups > 1:
        return "there is no quantisation-aware training for transposed convolutions in groups"
    if kind in FOLDED_INTO | NORMS | RECTIFIERS | MOVED | _COMPUTED:
        return None
    return f"there is no quantisation-aware training for {kind} layers"
