"""Quantisation-aware training: noted down for the training that follows to carry out."""

from __future__ import annotations

from dataclasses import replace

from featherweight.spec import QuantizeAware
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.qat.request import chosen
from tasks.compression.context import Context
from tasks.compression.pending import Pending
from tasks.compression.workspace import LayerNote

__all__ = ["check", "quantize_aware"]


def check(network: Network, step: QuantizeAware, pointer: str) -> None:
    """CompressionError layer_not_found; unsupported_model for a model without a graph of layers;
    layer_not_supported where the step says ``error``, and when no layer can learn to be rounded."""
    chosen(network.model, step, pointer)


def quantize_aware(network: Network, step: QuantizeAware, context: Context) -> Network:
    """Leave the step pending. CompressionError as `check`, for layers that an earlier step changed."""
    choice = chosen(network.model, step, context.pointer)
    for path, why in choice.left_float.items():
        context.record.layers[path] = LayerNote(skipped=why)
        context.warn("computed_in_float", layer=path, why=why)
    context.record.details.update(
        weight_bits=step.weight_bits, activation_bits=step.activation_bits, layers=len(choice.quantized)
    )
    return replace(network, pending=(*network.pending, Pending(step, context.pointer)))
