"""Distillation from the model as it was uploaded: fine-tuning with another aim."""

from __future__ import annotations

from featherweight.spec import Distill
from tasks.compression.backends.torch.finetune import finetune
from tasks.compression.backends.torch.layers import select
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.teaching import Teaching
from tasks.compression.context import Context
from tasks.compression.teaching import note, selected_features

__all__ = ["check", "distill"]


def check(network: Network, step: Distill, pointer: str) -> None:
    """CompressionError layer_not_found for a pattern in `features`."""
    _features(network, step, f"{pointer}/features")


def distill(network: Network, step: Distill, context: Context) -> Network:
    """Fine-tune towards `context.original`, carrying out what is pending as finetune does.

    CompressionError layer_not_supported where an earlier step took away or reshaped a feature;
    training_diverged.
    """
    original: Network = context.original
    features = _features(original, step, f"{context.pointer}/features")
    note(step, features, context)
    objective = context.training_data.objectives[context.index]
    return finetune(network, step, context, Teaching(step, objective, original, features))


def _features(network: Network, step: Distill, pointer: str) -> tuple[str, ...]:
    found = selected_features(network.model, step, pointer, select)
    return tuple(dict.fromkeys(place.path for place, _ in found))
