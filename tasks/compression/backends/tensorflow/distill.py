"""Distillation from the model as it was uploaded: fine-tuning with another aim."""

from __future__ import annotations

from featherweight.spec import Distill
from tasks.compression.backends.tensorflow._framework import keras
from tasks.compression.backends.tensorflow.feature_layers import refused_feature
from tasks.compression.backends.tensorflow.finetune import finetune
from tasks.compression.backends.tensorflow.layers import select
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.teaching import Teaching
from tasks.compression.context import Context
from tasks.compression.teaching import note, selected_features

__all__ = ["check", "distill"]


def check(network: Network, step: Distill, pointer: str) -> None:
    """CompressionError layer_not_found for a pattern in `features`; layer_not_supported for a layer within
    a nested model, whose output the whole does not have."""
    _features(network, step, f"{pointer}/features")


def distill(network: Network, step: Distill, context: Context) -> Network:
    """Fine-tune towards `context.original`, carrying out what is pending as finetune does.

    CompressionError layer_not_supported where an earlier step took away or reshaped a feature;
    training_diverged.
    """
    original: Network = context.original
    pointer = f"{context.pointer}/features"
    features = _features(original, step, pointer)
    note(step, features, context)
    objective = context.training_data.objectives[context.index]
    taught: Network = finetune(network, step, context, Teaching(step, objective, original.model, features))
    return taught


def _features(network: Network, step: Distill, pointer: str) -> tuple[str, ...]:
    paths: dict[str, None] = {}
    for place, where in selected_features(network.model, step, pointer, select):
        if "/" in place.path and place.path not in {layer.name for layer in network.model.layers}:
            raise refused_feature(place.path, where)
        if not isinstance(place.layer, keras.layers.InputLayer):
            paths[place.path] = None
    return tuple(paths)
