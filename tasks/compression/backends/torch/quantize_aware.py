"""Quantisation-aware training: noted down for the training that follows to carry out."""

from __future__ import annotations

from dataclasses import replace

from featherweight.spec import QuantizeAware
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.qat.request import chosen
from tasks.compression.context import Context
from tasks.compression.outputs import PROGRAMS
from tasks.compression.pending import Pending
from tasks.compression.quantizing.formats import QUANTISED
from tasks.compression.workspace import LayerNote

__all__ = ["check", "quantize_aware"]


def check(network: Network, step: QuantizeAware, pointer: str) -> None:
    """CompressionError layer_not_found; layer_not_supported where the step says ``error``, and when no layer
    can learn to be rounded."""
    chosen(network.model, step, pointer)


def quantize_aware(network: Network, step: QuantizeAware, context: Context) -> Network:
    """Leave the step pending. CompressionError as `check`, for layers that an earlier step changed.

    Formats beside LiteRT's that could hold integers are said to have float weights."""
    choice = chosen(network.model, step, context.pointer)
    for path, why in choice.left_float.items():
        context.record.layers[path] = LayerNote(skipped=why)
        context.warn("computed_in_float", layer=path, why=why)
    for output in context.outputs:
        if output in QUANTISED and output not in PROGRAMS:
            context.warn("output_left_float", output=output, why="what is learned is the rounding of LiteRT")
    context.record.details.update(
        weight_bits=step.weight_bits, activation_bits=step.activation_bits, layers=len(choice.quantized)
    )
    return replace(network, pending=(*network.pending, Pending(step, context.pointer)))
