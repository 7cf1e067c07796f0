"""The distributions whose versions decide what a job comes to. Imports nothing of them."""

from __future__ import annotations

__all__ = ["DISTRIBUTIONS", "OF", "TORCH"]

DISTRIBUTIONS = (
    "ai-edge-litert",
    "keras",
    "litert-quantizer",
    "numpy",
    "onnx",
    "onnxruntime",
    "tensorflow",
    "tensorflow-model-optimization",
    "tf-keras",
    "tf2onnx",
)

TORCH = (
    "ai-edge-litert",
    "executorch",
    "litert-converter",
    "litert-quantizer",
    "litert-torch",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "torch",
    "torch-pruning",
    "torchao",
)

OF: dict[str, tuple[str, ...]] = {"tensorflow": DISTRIBUTIONS, "torch": TORCH}
"""By the framework of the model."""
