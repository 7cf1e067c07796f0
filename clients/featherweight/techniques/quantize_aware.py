"""Quantisation-aware training: the network learns to live with rounded weights and activations."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from featherweight.techniques.parts import LayerSelection, OnUnsupported, Part

__all__ = ["QuantizeAware"]

_Bits = Annotated[int, Field(ge=2, le=16, strict=True)]


class QuantizeAware(Part):
    """Quantisation-aware training (Jacob et al. 2018), carried out by the training step right after it.

    With 8 and 8 bits the ``tflite`` output is full int8 with the ranges learned; `io_dtype` is the
    type of its inputs and outputs. Zeros and shared weights that earlier steps made are preserved.
    """

    technique: Literal["quantize_aware"]
    weight_bits: _Bits = 8
    activation_bits: _Bits = 8
    layers: LayerSelection = LayerSelection()
    io_dtype: Literal["float32", "int8"] = "float32"
    on_unsupported: OnUnsupported = "skip"
