"""The layers of a network as its ``.tflite`` has them: the type of their weights, and how far their outputs
are from the float network's."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.compression.backends.tensorflow.convert import to_tflite
from tasks.compression.backends.tensorflow.layers import placed_layers
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.programs.layers import traced
from tasks.compression.backends.tensorflow.programs.networks import Layerless
from tasks.compression.backends.tensorflow.tracing import trace
from tasks.compression.errors import CompressionError
from tasks.compression.facts import StoredLayer
from tasks.compression.quantizing.sensitivity import layer_errors
from tasks.compression.quantizing.tracing import Traced, stored_types
from tasks.compression.samples import Tensors

__all__ = ["stored"]

SAMPLES = 8
MAX_PARAMETERS = 20_000_000
"""Beyond it the float file that outputs are compared with takes longer to make than its numbers are worth."""


def stored(network: Network, samples: Tensors | None) -> dict[str, StoredLayer]:
    """See `tasks.compression.backends.Backend`. `samples` beyond the first 8 are not looked at."""
    content = network.tflite
    if isinstance(network.model, Layerless):
        reference = network.model.program
        types = stored_types(content or reference, traced(reference))
        ratios = (
            _ratios(reference, content, traced(reference), samples[:SAMPLES])
            if content is not None and samples is not None
            else {}
        )
        return {layer: StoredLayer(dtype, ratios.get(layer)) for layer, dtype in types.items()}
    if content is None:
        return {
            place.path: StoredLayer("+".join(sorted({weight.dtype.name for weight in place.layer.weights})))
            for place in placed_layers(network.model)
            if place.layer.weights
        }
    if network.model.count_params() > MAX_PARAMETERS:
        return _typed(stored_types(content, trace(network.model, content)))
    try:
        reference = to_tflite(network.model)
    except CompressionError:
        return _typed(stored_types(content, trace(network.model, content)))
    sources = trace(network.model, reference)
    types = stored_types(content, sources)
    ratios = {} if samples is None else _ratios(reference, content, sources, samples[:SAMPLES])
    return {layer: StoredLayer(dtype, ratios.get(layer)) for layer, dtype in types.items()}


def _typed(types: dict[str, str]) -> dict[str, StoredLayer]:
    return {layer: StoredLayer(dtype) for layer, dtype in types.items()}


def _ratios(
    reference: bytes, content: bytes, sources: Sequence[Traced], samples: Tensors
) -> dict[str, float]:
    """By layer; none where LiteRT's kernels cannot run one of the files with its inner tensors kept."""
    try:
        return {error.layer: error.snr_db for error in layer_errors(reference, content, sources, samples)}
    except (RuntimeError, ValueError):
        return {}
