"""Quantisation-aware training: the network learns to live with rounded weights and activations."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from featherweight.techniques.parts import LayerSelection, OnUnsupported, Part

__all__ = ["QuantizeAware"]


class QuantizeAware(Part):
    """Quantisation-aware training (Jacob et al. 2018), carried out by the training step right after it.

    The ``tflite`` output then computes in integers with the ranges learned; ``keras`` outputs hold the
    trained weights in float. Of `weight_bits` up to 4 the file has int4 weights, of more int8, and no more
    than 2 to the power of `weight_bits` levels in an output channel; activations have 8 bits, the only
    number that LiteRT computes such a file in. `io_dtype` is the type of the model's inputs and outputs.

    Zeros and shared values that earlier steps made, or that steps waiting for the same training make, are
    there in the file too. `on_unsupported` says what happens to a selected layer that cannot learn to be
    rounded: ``skip`` leaves it float and reports it, ``error`` fails the job with its name.
    """

    technique: Literal["quantize_aware"]
    weight_bits: Annotated[int, Field(ge=2, le=8, strict=True)] = 8
    activation_bits: Literal[8] = 8
    layers: LayerSelection = LayerSelection()
    io_dtype: Literal["float32", "int8"] = "float32"
    on_unsupported: OnUnsupported = "skip"
