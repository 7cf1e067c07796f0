"""What structured pruning asks of Keras networks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tasks.compression.backends.tensorflow.backend import restore, save
from tasks.compression.backends.tensorflow.joint import loss_of
from tasks.compression.backends.tensorflow.layers import select
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.structured import dependencies
from tasks.compression.channel_cuts import Surgery
from tasks.compression.channel_request import Paths

__all__ = ["SURGERY"]


def _paths(network: Network) -> Paths:
    return lambda selection, pointer: [place.path for place in select(network.model, selection, pointer)]


def _smaller(network: Network, model: Any) -> Network:
    return replace(network, model=model, pruned={}, shared={}, tflite=None)


SURGERY = Surgery(
    dependencies=lambda network: dependencies(network.model),
    paths=_paths,
    smaller=_smaller,
    loss=lambda aim: loss_of(aim, everything=True),
    save=save,
    restore=restore,
)
