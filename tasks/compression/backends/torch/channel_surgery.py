"""What structured pruning asks of PyTorch networks."""

from __future__ import annotations

from dataclasses import replace

from tasks.compression.backends.torch._framework import fx
from tasks.compression.backends.torch.backend import restore, save
from tasks.compression.backends.torch.joint import loss_of
from tasks.compression.backends.torch.layers import select
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.structured import dependencies
from tasks.compression.channel_cuts import Surgery
from tasks.compression.channel_request import Paths

__all__ = ["SURGERY"]


def _paths(network: Network) -> Paths:
    return lambda selection, pointer: [place.path for place in select(network.model, selection, pointer)]


def _smaller(network: Network, model: fx.GraphModule) -> Network:
    return replace(network, model=model, pruned={}, shared={}, files={}, simulated=None)


SURGERY = Surgery(
    dependencies=lambda network: dependencies(network.model, network.signature),
    paths=_paths,
    smaller=_smaller,
    loss=lambda aim: loss_of(aim, everything=True),
    save=save,
    restore=restore,
)
