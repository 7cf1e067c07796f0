"""Low-rank decomposition: a layer becomes two or three thinner ones."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from featherweight.techniques.parts import LayerSelection, OnUnsupported, Part, Share

__all__ = ["Decompose", "FixedRank", "Rank", "RankByEnergy", "RankByParameters"]


class RankByEnergy(Part):
    """The smallest rank that keeps this share of the squared singular values."""

    type: Literal["energy"] = "energy"
    keep: Share = 0.9


class RankByParameters(Part):
    """The largest rank that leaves this share of the layer's parameters."""

    type: Literal["parameters"]
    keep: Share


class FixedRank(Part):
    type: Literal["fixed"]
    rank: Annotated[int, Field(ge=1, le=65_536, strict=True)]


Rank = Annotated[RankByEnergy | RankByParameters | FixedRank, Field(discriminator="type")]


class Decompose(Part):
    """Low-rank decomposition: SVD of Dense layers, Tucker-2 of convolutions (Kim et al. 2016).

    A layer that would not become smaller stays as it is and is reported.
    """

    technique: Literal["decompose"]
    rank: Rank = RankByEnergy()
    layers: LayerSelection = LayerSelection()
    on_unsupported: OnUnsupported = "skip"
