"""The operations of a ``.tflite`` that layers become."""

from __future__ import annotations

__all__ = ["OPERATIONS"]

OPERATIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "Dense": (("FULLY_CONNECTED", "kernel"),),
    **dict.fromkeys(["Conv1D", "Conv2D"], (("CONV_2D", "kernel"),)),
    "DepthwiseConv2D": (("DEPTHWISE_CONV_2D", "depthwise_kernel"),),
    "SeparableConv2D": (("DEPTHWISE_CONV_2D", "depthwise_kernel"), ("CONV_2D", "pointwise_kernel")),
    "Conv2DTranspose": (("TRANSPOSE_CONV", "kernel"),),
    "Embedding": (("GATHER", "embeddings"),),
}
"""What the converter makes of a layer, and of which weight: those whose operations are traced back to it."""
