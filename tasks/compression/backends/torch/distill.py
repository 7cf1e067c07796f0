"""Distillation from the model as it was uploaded: fine-tuning with another aim."""

from __future__ import annotations

from featherweight.spec import Distill, LayerSelection
from tasks.compression.backends.torch.finetune import finetune
from tasks.compression.backends.torch.layers import select
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.teaching import Teaching
from tasks.compression.context import Context
from tasks.compression.errors import CompressionError

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
    context.record.details.update(
        teacher="the uploaded model",
        temperature=step.temperature,
        weight=step.weight,
        features=list(features),
    )
    objective = context.training_data.objectives[context.index]
    return finetune(network, step, context, Teaching(step, objective, original, features))


def _features(network: Network, step: Distill, pointer: str) -> tuple[str, ...]:
    # One selection a pattern, so that the pointer is that of the pattern in the list.
    paths: dict[str, None] = {}
    for index, pattern in enumerate(step.features):
        try:
            chosen = select(network.model, LayerSelection(include=(pattern,)), pointer)
        except CompressionError as error:
            error.pointer = f"{pointer}/{index}"
            raise
        paths |= dict.fromkeys(place.path for place in chosen)
    return tuple(paths)
