"""Structured pruning: output channels are removed, the network becomes smaller and faster."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from featherweight.techniques.parts import LayerSelection, OnUnsupported, Part, Share

__all__ = ["ChannelOverride", "ChannelTarget", "KeepMacs", "KeepParameters", "PruneChannels", "RemoveRatio"]

_Ratio = Annotated[float, Field(ge=0, lt=1)]


class RemoveRatio(Part):
    """Remove this share of the channels of every layer."""

    type: Literal["ratio"] = "ratio"
    remove: _Ratio = 0.5


class KeepParameters(Part):
    """Remove the least important channels of the whole network until this share of its parameters is left."""

    type: Literal["parameters"]
    keep: Share


class KeepMacs(Part):
    """Remove the least important channels of the whole network until this share of its multiplications
    (MACs) is left."""

    type: Literal["macs"]
    keep: Share


ChannelTarget = Annotated[RemoveRatio | KeepParameters | KeepMacs, Field(discriminator="type")]


class ChannelOverride(Part):
    """Remove another share of some layers' channels; 0 leaves them alone. The first match counts."""

    layers: LayerSelection
    remove: _Ratio


class PruneChannels(Part):
    """Remove output channels with all that depends on them (DepGraph, Fang et al. 2023).

    The result is a plain dense network with fewer parameters and MACs. `importance` ranks channels:
    ``l1``, ``l2`` norms of their weights, ``geometric_median`` (He et al. 2019), ``batch_norm_scale``
    (Liu et al. 2017), first-order ``taylor`` (Molchanov et al. 2019; needs data), ``random`` (a
    baseline). Channel counts become multiples of `round_to` and never fall below `min_channels`.

    With `iterations` above 1 the target is approached in that many rounds, and the training step
    right after this one runs once after each.
    """

    technique: Literal["prune_channels"]
    importance: Literal["l1", "l2", "geometric_median", "batch_norm_scale", "taylor", "random"] = "l2"
    target: ChannelTarget = RemoveRatio()
    layers: LayerSelection = LayerSelection()
    overrides: Annotated[tuple[ChannelOverride, ...], Field(max_length=100)] = ()
    min_channels: Annotated[int, Field(ge=1, le=65_536, strict=True)] = 1
    round_to: Annotated[int, Field(ge=1, le=1024, strict=True)] = 1
    iterations: Annotated[int, Field(ge=1, le=50, strict=True)] = 1
    on_unsupported: OnUnsupported = "skip"
