"""Fine-tuning, with the steps that wait for it and with what earlier ones made of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

from featherweight.spec import Cluster, Prune, QuantizeAware
from tasks.compression.backends.tensorflow._framework import without_autograph
from tasks.compression.backends.tensorflow.fit import fit
from tasks.compression.backends.tensorflow.masking import Masking
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.projection import Projection
from tasks.compression.backends.tensorflow.qat.rounding import rounding_parts
from tasks.compression.backends.tensorflow.summaries import Summaries
from tasks.compression.backends.tensorflow.teaching import Teaching
from tasks.compression.backends.tensorflow.training_parts import TrainingPart
from tasks.compression.context import Context
from tasks.compression.resolve import optimiser_steps
from tasks.compression.waiting import TrainingStep

__all__ = ["finetune"]


@without_autograph  # type: ignore[untyped-decorator]
def finetune(
    network: Network, step: TrainingStep, context: Context, teaching: Teaching | None = None
) -> Network:
    """Train on the training split, carrying out `network.pending`; returns the model stripped.

    With `teaching`, towards a teacher's outputs. CompressionError training_diverged when the loss is no
    longer finite.
    """
    steps = optimiser_steps(len(context.training_data.train), step)
    parts = _parts(network, steps, context)
    model = network.model
    for part in parts:
        model = part.wrap(model)
    for part in parts:
        part.constrain(model)
    with Summaries(context.scratch, parts) if _summarised(network) else nullcontext() as summaries:
        taken = fit(model, step, context, parts, teaching, [summaries] if summaries else [])
        tensorboard = summaries.archive() if summaries else network.tensorboard
    for part in reversed(parts):
        model = part.unwrap(model)
    trained = replace(network, model=model, pending=(), tensorboard=tensorboard)
    for part in parts:
        trained = part.outcome(trained, taken, context)
    return trained


def _parts(network: Network, steps: int, context: Context) -> Sequence[TrainingPart]:
    """What takes part in a training of `steps` optimiser steps: for what waits, and for what is to stay."""
    rounding = network.waiting(QuantizeAware)
    if rounding:
        return rounding_parts(network, rounding[-1], steps, context)
    if network.shared or network.waiting(Cluster):
        return [Projection(network, steps, context)]
    return [Masking(network, steps, context)]


def _summarised(network: Network) -> bool:
    return any(item.step.summaries for item in network.waiting(Prune))
