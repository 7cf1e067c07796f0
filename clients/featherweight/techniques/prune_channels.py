"""Structured pruning: output channels are removed, the network becomes smaller and faster."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from featherweight.techniques.parts import LayerSelection, OnUnsupported, Part, Share

__all__ = ["ChannelOverride", "ChannelTarget", "KeepMacs", "KeepParameters", "PruneChannels", "RemoveRatio"]

_Ratio = Annotated[float, Field(ge=0, lt=1)]


class RemoveRatio(Part):
    """Remove this share of the channels of every selected layer, and never more."""

    type: Literal["ratio"] = "ratio"
    remove: _Ratio = 0.5


class KeepParameters(Part):
    """Remove channels until at most this share of the network's parameters is left: of every selected layer
    the same share of channels, as large as that takes."""

    type: Literal["parameters"]
    keep: Share


class KeepMacs(Part):
    """Likewise until at most this share of the network's multiply-accumulates (MACs) is left."""

    type: Literal["macs"]
    keep: Share


ChannelTarget = Annotated[RemoveRatio | KeepParameters | KeepMacs, Field(discriminator="type")]


class ChannelOverride(Part):
    """Remove another share of some layers' channels; 0 leaves them alone. The first match counts; of
    layers that can only lose channels together, the smallest share."""

    layers: LayerSelection
    remove: _Ratio


class PruneChannels(Part):
    """Remove output channels with all that depends on them (DepGraph, Fang et al. 2023).

    The result is a plain dense network with fewer parameters and MACs. `importance` ranks channels:
    ``l1``, ``l2`` norms of their weights, ``geometric_median`` (He et al. 2019), ``batch_norm_scale``
    (Liu et al. 2017), first-order ``taylor`` (Molchanov et al. 2019; needs data), ``random`` (a
    baseline). Where channels are removed, those left are a multiple of `round_to` and no fewer than
    `min_channels`.

    Layers whose channels are added together lose the same ones; all of them have to be selected.
    `on_unsupported` says what happens to a selected layer that cannot lose channels (the last one: its
    channels are the outputs): ``skip`` leaves it as it is and reports it, ``error`` fails the job with
    its name.

    With `iterations` above 1 the step waits for the training step right after it, which runs once after each
    of that many cuts, as a whole: with all its epochs, and its learning rate from the beginning. The cuts
    leave the same share of what they find each time (with keep 0.5 and 2 iterations 0.71, then 0.5 of the
    network as the step found it; shares of single layers likewise), and channels are ranked anew for each.
    """

    technique: Literal["prune_channels"]
    importance: Literal["l1", "l2", "geometric_median", "batch_norm_scale", "taylor", "random"] = "l2"
    target: ChannelTarget = RemoveRatio()
    layers: LayerSelection = LayerSelection()
    overrides: Annotated[tuple[ChannelOverride, ...], Field(max_length=100)] = ()
    min_channels: Annotated[int, Field(ge=1, le=65_536, strict=True)] = 1
    round_to: Annotated[int, Field(ge=1, le=1024, strict=True)] = 1
    iterations: Annotated[int, Field(ge=1, le=20, strict=True)] = 1
    on_unsupported: OnUnsupported = "skip"
