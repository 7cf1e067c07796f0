"""The layers of a network as its ``.tflite`` has them: the type of their weights, and how far their outputs
are from the float network's."""

from __future__ import annotations

from tasks.compression.backends.torch.convert import to_tflite, trace
from tasks.compression.backends.torch.layers import placed_layers, weights
from tasks.compression.backends.torch.network import Network
from tasks.compression.errors import CompressionError
from tasks.compression.facts import StoredLayer
from tasks.compression.quantizing.sensitivity import layer_errors
from tasks.compression.quantizing.tracing import stored_types
from tasks.compression.samples import Tensors

__all__ = ["stored"]

SAMPLES = 8


def stored(network: Network, samples: Tensors | None) -> dict[str, StoredLayer]:
    """See `tasks.compression.backends.Backend`. `samples` beyond the first 8 are not looked at."""
    content = network.files.get("tflite")
    if content is None:
        return _in_float(network)
    try:
        reference = to_tflite(network)
    except CompressionError:
        return {}
    traced = trace(network, reference)
    ratios = {}
    if samples is not None:
        # LiteRT's kernels cannot run every file with its inner tensors kept.
        try:
            errors = layer_errors(reference, content, traced, samples[:SAMPLES])
            ratios = {error.layer: error.snr_db for error in errors}
        except (RuntimeError, ValueError):
            ratios = {}
    types = stored_types(content, traced)
    return {layer: StoredLayer(dtype, ratios.get(layer)) for layer, dtype in types.items()}


def _in_float(network: Network) -> dict[str, StoredLayer]:
    found = {}
    for place in placed_layers(network.model):
        if values := weights(place.layer):
            types = {str(value.dtype).removeprefix("torch.") for value in values}
            found[place.path] = StoredLayer("+".join(sorted(types)))
    return found
