"""Quantisation-aware training: noted down for the training that follows to carry out."""

from __future__ import annotations

from featherweight.spec import QuantizeAware
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.qat.request import chosen
from tasks.compression.context import Context
from tasks.compression.quantize_aware_step import leave_pending

__all__ = ["check", "quantize_aware"]


def check(network: Network, step: QuantizeAware, pointer: str) -> None:
    """CompressionError as qat.request.chosen."""
    chosen(network.model, step, pointer)


def quantize_aware(network: Network, step: QuantizeAware, context: Context) -> Network:
    """Leave the step pending. CompressionError as `check`, for layers that an earlier step changed."""
    return leave_pending(network, step, context, chosen(network.model, step, context.pointer))
