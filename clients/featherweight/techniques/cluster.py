"""Weight clustering: each layer's weights take few distinct values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from featherweight.techniques.parts import LayerSelection, OnUnsupported, Part

__all__ = ["Cluster"]


class Cluster(Part):
    """Weight sharing (Han et al. 2016): the weights of each layer, or of each of its output channels
    with `per_channel`, take at most `clusters` distinct values. Zeros of pruned layers stay zero.
    """

    technique: Literal["cluster"]
    clusters: Annotated[int, Field(ge=2, le=256, strict=True)] = 16
    initialization: Literal["linear", "kmeans_plus_plus", "density"] = "kmeans_plus_plus"
    per_channel: bool = False
    layers: LayerSelection = LayerSelection()
    on_unsupported: OnUnsupported = "skip"
