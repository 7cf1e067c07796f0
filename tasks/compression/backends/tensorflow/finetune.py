"""Fine-tuning, with the steps that wait for it and with what earlier ones made of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from featherweight.spec import Cluster, Prune, PruneChannels, QuantizeAware
from tasks.compression.backends.tensorflow._framework import without_autograph
from tasks.compression.backends.tensorflow.channel_rounds import train_in_rounds
from tasks.compression.backends.tensorflow.fit import fit
from tasks.compression.backends.tensorflow.masking import Masking
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.projection import Projection
from tasks.compression.backends.tensorflow.qat.rounding import rounding_parts
from tasks.compression.backends.tensorflow.summaries import Summaries
from tasks.compression.backends.tensorflow.teaching import Teaching, check_features
from tasks.compression.backends.tensorflow.training_parts import TrainingPart
from tasks.compression.context import Context
from tasks.compression.errors import CompressionError
from tasks.compression.resolve import optimiser_steps
from tasks.compression.waiting import TrainingStep

__all__ = ["finetune"]


@without_autograph  # type: ignore[untyped-decorator]
def finetune(
    network: Network, step: TrainingStep, context: Context, teaching: Teaching | None = None
) -> Network:
    """Train on the training split, carrying out `network.pending`; returns the model stripped.

    With `teaching`, towards a teacher's outputs. CompressionError training_diverged when the loss is no
    longer finite, with the model of the last good epoch, stripped as well; layer_not_supported where a cut
    in channels reshaped a feature that is taught.
    """

    def train(network: Network, step: TrainingStep, context: Context) -> Network:
        if teaching is not None:
            check_features(teaching.teacher, network.model, teaching.features, f"{context.pointer}/features")
        return _trained(network, step, context, teaching)

    if network.waiting(PruneChannels):
        return train_in_rounds(network, step, context, train)
    return train(network, step, context)


def _trained(network: Network, step: TrainingStep, context: Context, teaching: Teaching | None) -> Network:
    steps = optimiser_steps(len(context.training_data.train), step)
    parts = _parts(network, steps, context)
    model = network.model
    for part in parts:
        model = part.wrap(model)
    for part in parts:
        part.constrain(model)
    state = [variable for part in parts for variable in part.state]
    with Summaries(context.scratch, parts) if _summarised(network) else nullcontext() as summaries:
        try:
            taken = fit(model, step, context, parts, teaching, [summaries] if summaries else [], state)
        except CompressionError as error:
            if error.kept is not None:
                last_good = replace(network, model=_unwrapped(model, parts), pending=())
                error.kept = replace(error.kept, network=last_good)
            raise
        tensorboard = summaries.archive() if summaries else network.tensorboard
    model = _unwrapped(model, parts)
    trained = replace(network, model=model, pending=(), tensorboard=tensorboard)
    for part in parts:
        trained = part.outcome(trained, taken, context)
    return trained


def _unwrapped(model: Any, parts: Sequence[TrainingPart]) -> Any:
    for part in reversed(parts):
        model = part.unwrap(model)
    return model


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
