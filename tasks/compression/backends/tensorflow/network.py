"""What goes from handler to handler."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.compression.facts import ModelFacts
from tasks.compression.underway import Underway

__all__ = ["Loaded", "Network"]


@dataclass(frozen=True)
class Network(Underway):
    """A Keras model on its way through the steps.

    `tflite` is the converted file, once a quantize step made it; `sparse_kernels` says that a float
    ``.tflite`` is to hold zeros encoded, for XNNPACK's sparse kernels; `keras3` that the model came as one of
    Keras 3, and is delivered as one.
    """

    tflite: bytes | None = None
    sparse_kernels: bool = False
    keras3: bool = False


@dataclass(frozen=True)
class Loaded:
    network: Network
    facts: ModelFacts
