"""Low-rank decomposition: a layer becomes two or three thinner ones."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from featherweight.techniques.parts import LayerSelection, OnUnsupported, Part, Share

__all__ = ["Decompose", "FixedRank", "Rank", "RankByBudget", "RankByEnergy", "RankByParameters"]


class RankByEnergy(Part):
    """The smallest rank that keeps this share of the squared singular values, of each side of the kernel."""

    type: Literal["energy"] = "energy"
    keep: Share = 0.9


class RankByParameters(Part):
    """The ranks that keep most, of those that leave at most this share of the layer's own parameters."""

    type: Literal["parameters"]
    keep: Share


class RankByBudget(Part):
    """Likewise, of those that leave at most this share of the parameters of all selected layers together:
    layers that lose little give more."""

    type: Literal["budget"]
    keep: Share


class FixedRank(Part):
    """This rank, or as many channels as the layer has where that is less."""

    type: Literal["fixed"]
    rank: Annotated[int, Field(ge=1, le=65_536, strict=True)]


Rank = Annotated[
    RankByEnergy | RankByParameters | RankByBudget | FixedRank,
    Field(discriminator="type"),
]


class Decompose(Part):
    """Low-rank decomposition: the SVD of dense layers and 1x1 convolutions, Tucker-2 of other convolutions
    (Kim et al. 2016).

    A layer ``conv`` becomes ``conv_in`` (1x1, to the input rank), ``conv_core`` (the kernel's size) and
    ``conv`` (1x1, with bias and activation), a dense layer ``dense_in`` and ``dense``. Ranks are multiples of
    `round_to`: rounded up under ``energy`` and ``fixed``, the largest that fit under ``parameters`` and
    ``budget``.

    A layer that would not become smaller stays as it is and is reported. `on_unsupported` says what
    happens to a selected layer of a kind that cannot be decomposed: ``skip`` leaves it as it is and
    reports it, ``error`` fails the job with its name.
    """

    technique: Literal["decompose"]
    rank: Rank = RankByEnergy()
    layers: LayerSelection = LayerSelection()
    round_to: Annotated[int, Field(ge=1, le=1024, strict=True)] = 1
    on_unsupported: OnUnsupported = "skip"
