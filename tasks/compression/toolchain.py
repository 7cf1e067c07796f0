"""The distributions whose versions decide what a job comes to. Imports nothing of them."""

from __future__ import annotations

__all__ = ["DISTRIBUTIONS"]

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
