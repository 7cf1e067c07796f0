"""The float file of a network, its operations and the layers that a quantisation is for."""

from __future__ import annotations

from functools import partial

from featherweight.spec import LayerSelection, Quantize
from tasks.compression.backends.torch.convert import to_tflite, trace
from tasks.compression.backends.torch.layers import select, weights
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.predict import predict
from tasks.compression.context import Context
from tasks.compression.quantizing.source import Source

__all__ = ["matrices", "read_source", "unselected"]


def unselected(network: Network, step: Quantize, pointer: str) -> frozenset[str]:
    """The paths of the layers that `layers` leaves out. CompressionError layer_not_found."""
    everything = {place.path for place in select(network.model, LayerSelection(), pointer)}
    chosen = {place.path for place in select(network.model, step.layers, f"{pointer}/layers")}
    return frozenset(everything - chosen)


def matrices(network: Network) -> list[str]:
    """The layers with weights of two axes or more."""
    return [
        place.path
        for place in select(network.model, LayerSelection(), "")
        if any(value.dim() > 1 for value in weights(place.layer))
    ]


def read_source(network: Network, step: Quantize, context: Context) -> Source:
    left = unselected(network, step, context.pointer)
    program = to_tflite(network)
    traced = tuple(trace(network, program))
    lost = sum(item.layer is None and item.operation.weights is not None for item in traced)
    if lost and left:
        context.warn("untraced_weights", count=lost)
    answers = partial(predict, network.model, network.signature)
    return Source(network, answers, program, traced, left, context.pointer)
