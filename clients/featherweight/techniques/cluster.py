"""Weight clustering: each layer's weights take few distinct values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from featherweight.techniques.parts import LayerSelection, OnUnsupported, Part

__all__ = ["Cluster", "ClusterOverride"]

_Clusters = Annotated[int, Field(ge=2, le=256, strict=True)]


class ClusterOverride(Part):
    """Another number of values for some of the selected layers; of two that match, the first counts."""

    layers: LayerSelection
    clusters: _Clusters


class Cluster(Part):
    """Weight sharing (Han et al. 2016): the weights of a layer take few distinct values.

    Every kernel of a selected layer, or with `per_channel` every output channel of it, takes at most
    `clusters` distinct values. In a layer that was pruned its zeros stay zero and are not counted:
    it has zero and at most `clusters` other values. Biases are left alone.

    `initialization` says where k-means starts: values evenly spaced (``linear``) or evenly many weights
    apart (``density``; both Han et al. 2016), or ``kmeans_plus_plus`` (Arthur & Vassilvitskii 2007). With
    a training step after it, weights are shared from the share `begin` of that training on; the values move
    with the weights, and later steps keep them few. Without one it is done at once, without data.

    `on_unsupported` says what happens to a selected layer whose weights cannot be shared: ``skip`` leaves
    it as it is and reports it, ``error`` fails the job with its name.
    """

    technique: Literal["cluster"]
    clusters: _Clusters = 16
    initialization: Literal["linear", "kmeans_plus_plus", "density"] = "kmeans_plus_plus"
    per_channel: bool = False
    begin: Annotated[float, Field(ge=0, lt=1)] = 0.0
    layers: LayerSelection = LayerSelection()
    overrides: Annotated[tuple[ClusterOverride, ...], Field(max_length=100)] = ()
    on_unsupported: OnUnsupported = "skip"
