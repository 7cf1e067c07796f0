"""Unstructured pruning: weights become zero, the network keeps its shape."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from featherweight.techniques.parts import LayerSelection, OnUnsupported, Part
from featherweight.techniques.schedules import PolynomialDecay, PruningSchedule

__all__ = ["Block", "NOfM", "Prune", "PruneOverride", "PruningPattern", "Unstructured", "XnnpackLatency"]

_BlockSide = Annotated[int, Field(ge=1, le=256, strict=True)]


class Unstructured(Part):
    """Any weight may become zero."""

    type: Literal["unstructured"] = "unstructured"


class Block(Part):
    """Whole blocks of `block_size` [rows, columns] become zero, of a kernel seen as the matrix
    [everything else, output channels]; scored by the average or the maximum of their magnitudes."""

    type: Literal["block"]
    block_size: tuple[_BlockSide, _BlockSide] = (1, 4)
    pooling: Literal["average", "max"] = "average"


class NOfM(Part):
    """Of every `m` neighbouring weights, `n` stay (2:4 is n=2, m=4): the sparsity is 1 - n / m."""

    type: Literal["n_of_m"]
    n: Annotated[int, Field(ge=1, le=15, strict=True)] = 2
    m: Annotated[int, Field(ge=2, le=16, strict=True)] = 4

    @model_validator(mode="after")
    def _fewer_stay(self) -> NOfM:
        if self.n >= self.m:
            raise ValueError(f"n ({self.n}) must be less than m ({self.m})")
        return self


class XnnpackLatency(Part):
    """Only the layers that XNNPACK's sparse kernels make faster: 1x1 convolutions between layers that
    those kernels know. A network that is not made of these is refused with ``layer_not_supported``."""

    type: Literal["xnnpack_latency"]


PruningPattern = Annotated[Unstructured | Block | NOfM | XnnpackLatency, Field(discriminator="type")]


class PruneOverride(Part):
    """Another schedule for some of the selected layers; of two that match, the first counts."""

    layers: LayerSelection
    schedule: PruningSchedule


class Prune(Part):
    """Unstructured pruning: the least important weights become zero.

    `method` says which: ``magnitude`` the smallest of each layer (Zhu & Gupta 2017),
    ``global_magnitude`` the smallest of all selected layers together (Han et al. 2015; no layer
    loses all), ``lamp`` likewise by the score of Lee et al. 2021, so that layers end with different
    sparsities, ``random`` any (a baseline).

    Under ``n_of_m`` the sparsity follows from the pattern, and the schedule's own is not used.
    `on_unsupported` says what happens to a selected layer that cannot be pruned but has weights:
    ``skip`` leaves it as it is and reports it, ``error`` fails the job with its name. With `summaries` the
    training that carries the step out also delivers ``tensorboard.tar.gz``: the sparsity and threshold of
    each pruned weight by epoch.
    """

    technique: Literal["prune"]
    method: Literal["magnitude", "global_magnitude", "lamp", "random"] = "magnitude"
    schedule: PruningSchedule = PolynomialDecay()
    pattern: PruningPattern = Unstructured()
    layers: LayerSelection = LayerSelection()
    overrides: Annotated[tuple[PruneOverride, ...], Field(max_length=100)] = ()
    on_unsupported: OnUnsupported = "skip"
    summaries: bool = False

    @model_validator(mode="after")
    def _combinable(self) -> Prune:
        if self.method != "magnitude" and self.pattern.type != "unstructured":
            raise ValueError(f"the pattern {self.pattern.type} goes with the method magnitude alone")
        if self.method in ("global_magnitude", "lamp") and self.overrides:
            raise ValueError(f"{self.method} has one target for all layers: overrides do not go with it")
        if self.pattern.type == "n_of_m" and self.overrides:
            raise ValueError("the pattern n_of_m has its own sparsity: overrides do not go with it")
        return self
