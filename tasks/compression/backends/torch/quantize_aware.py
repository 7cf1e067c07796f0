"""Quantisation-aware training: noted down for the training that follows to carry out."""

from __future__ import annotations

from featherweight.spec import QuantizeAware
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.qat.request import chosen
from tasks.compression.context import Context
from tasks.compression.outputs import PROGRAMS
from tasks.compression.quantize_aware_step import leave_pending
from tasks.compression.quantizing.formats import QUANTISED

__all__ = ["check", "quantize_aware"]


def check(network: Network, step: QuantizeAware, pointer: str) -> None:
    """CompressionError as qat.request.chosen."""
    chosen(network.model, step, pointer)


def quantize_aware(network: Network, step: QuantizeAware, context: Context) -> Network:
    """Leave the step pending. CompressionError as `check`, for layers that an earlier step changed.

    Formats beside LiteRT's that could hold integers are said to have float weights."""
    for output in context.outputs:
        if output in QUANTISED and output not in PROGRAMS:
            context.warn("output_left_float", output=output, why="what is learned is the rounding of LiteRT")
    return leave_pending(network, step, context, chosen(network.model, step, context.pointer))
