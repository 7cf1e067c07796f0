"""Fine-tuning, with the steps that wait for it and with what earlier ones made of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

from featherweight.spec import Cluster, Prune, PruneChannels, QuantizeAware
from tasks.compression.backends.torch._framework import fx
from tasks.compression.backends.torch.channel_rounds import train_in_rounds
from tasks.compression.backends.torch.fit import fit
from tasks.compression.backends.torch.masking import Masking
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.projection import Projection
from tasks.compression.backends.torch.qat.rounding import rounding_parts
from tasks.compression.backends.torch.summaries import Summaries
from tasks.compression.backends.torch.teaching import Teaching, check_features
from tasks.compression.backends.torch.training_parts import TrainingPart
from tasks.compression.context import Context
from tasks.compression.errors import CompressionError
from tasks.compression.resolve import optimiser_steps
from tasks.compression.waiting import TrainingStep

__all__ = ["finetune"]


def finetune(
    network: Network, step: TrainingStep, context: Context, teaching: Teaching | None = None
) -> Network:
    """Train on the training split, carrying out `network.pending`; returns the model without what the
    training put around it.

    With `teaching`, towards a teacher's outputs. CompressionError training_diverged when the loss is no
    longer finite, with the model of the last good epoch, unwrapped as well; layer_not_supported where a cut
    in channels reshaped a feature that is taught; unsupported_model for one without weights to train.
    """

    def train(network: Network, step: TrainingStep, context: Context) -> Network:
        if teaching is not None:
            data = context.training_data
            check_features(teaching, network, data.x[data.train[:2]], f"{context.pointer}/features")
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
        part.begin(model)
    with Summaries(parts) if _summarised(network) else nullcontext() as summaries:
        try:
            taken = fit(model, network.signature, step, context, parts, teaching, summaries)
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


def _unwrapped(model: fx.GraphModule, parts: Sequence[TrainingPart]) -> fx.GraphModule:
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
