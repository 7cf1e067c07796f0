"""Distillation from the model as it was uploaded: fine-tuning with another aim."""

from __future__ import annotations

from featherweight.spec import Distill, LayerSelection
from tasks.compression.backends.tensorflow._framework import keras
from tasks.compression.backends.tensorflow.feature_layers import refused_feature
from tasks.compression.backends.tensorflow.finetune import finetune
from tasks.compression.backends.tensorflow.layers import select
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.teaching import Teaching
from tasks.compression.context import Context
from tasks.compression.errors import CompressionError

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
    context.record.details.update(
        teacher="the uploaded model",
        temperature=step.temperature,
        weight=step.weight,
        features=list(features),
    )
    objective = context.training_data.objectives[context.index]
    taught: Network = finetune(network, step, context, Teaching(step, objective, original.model, features))
    return taught


def _features(network: Network, step: Distill, pointer: str) -> tuple[str, ...]:
    if not step.features:
        return ()
    # One selection a pattern, so that the pointer is that of the pattern in the list.
    paths: dict[str, None] = {}
    for index, pattern in enumerate(step.features):
        try:
            chosen = select(network.model, LayerSelection(include=(pattern,)), pointer)
        except CompressionError as error:
            error.pointer = f"{pointer}/{index}"
            raise
        for place in chosen:
            if "/" in place.path and place.path not in {layer.name for layer in network.model.layers}:
                raise refused_feature(place.path, f"{pointer}/{index}")
            if not isinstance(place.layer, keras.layers.InputLayer):
                paths[place.path] = None
    return tuple(paths)
