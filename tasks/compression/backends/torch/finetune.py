"""Fine-tuning, with the steps that wait for it and with what earlier ones made of the weights."""

from __future__ import annotations

from functools import partial

from featherweight.spec import PruneChannels
from tasks.compression import training_parts
from tasks.compression.backends.torch._framework import fx
from tasks.compression.backends.torch.channel_surgery import SURGERY
from tasks.compression.backends.torch.fit import fit
from tasks.compression.backends.torch.masking import Masking
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.projection import Projection
from tasks.compression.backends.torch.qat.rounding import rounding_parts
from tasks.compression.backends.torch.summaries import Summaries
from tasks.compression.backends.torch.teaching import Teaching, check_features
from tasks.compression.channel_rounds import train_in_rounds
from tasks.compression.context import Context
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
        return train_in_rounds(network, step, context, train, SURGERY)
    return train(network, step, context)


def _trained(network: Network, step: TrainingStep, context: Context, teaching: Teaching | None) -> Network:
    steps = optimiser_steps(len(context.training_data.train), step)
    parts = training_parts.parts_of(
        network,
        rounding=lambda pending: rounding_parts(network, pending, steps, context),
        projection=lambda: Projection(network, steps, context),
        masking=lambda: Masking(network, steps, context),
    )

    def learned(model: fx.GraphModule, summaries: Summaries | None) -> int:
        return fit(model, network.signature, step, context, parts, teaching, summaries)

    return training_parts.train(network, parts, context, learned, partial(Summaries, parts))
