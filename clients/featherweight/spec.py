"""The compression spec, version 1: what a caller may ask for, and the bounds of every value.

    CompressionSpec
    ├── steps[]                    in the order they are applied, told apart by ``technique``
    │   ├── change the network     PruneChannels, Decompose
    │   ├── change the weights     Prune, Cluster, QuantizeAware
    │   ├── train                  Finetune, Distill
    │   └── convert                Quantize
    ├── outputs[]                  tflite | keras
    ├── split                      train / validation / test, made once by the service
    └── seed

A step that changes the weights is carried out *while* the training step right after it trains:
schedules run, clusters and ranges are learned. Several may stand before the same training step.
Without one right after it, ``prune`` and ``cluster`` are applied at once (one-shot, to the
schedule's final sparsity), and ``quantize_aware`` is refused. What a step made – zeros, shared
weights – every later step keeps; nobody has to ask for it.

Unknown keys are refused and every number has a bound, so that a misspelt key is an error at its
place rather than a default silently used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from featherweight.techniques.cluster import Cluster
from featherweight.techniques.decompose import Decompose, FixedRank, RankByEnergy, RankByParameters
from featherweight.techniques.finetune import (
    Augmentation,
    ConstantRate,
    CosineRate,
    Distill,
    EarlyStopping,
    Finetune,
    StepRate,
)
from featherweight.techniques.parts import AUTO, LayerSelection, Part
from featherweight.techniques.prune import Block, NOfM, Prune, PruneOverride, Unstructured, XnnpackLatency
from featherweight.techniques.prune_channels import (
    ChannelOverride,
    KeepMacs,
    KeepParameters,
    PruneChannels,
    RemoveRatio,
)
from featherweight.techniques.quantize import Quantize, Sensitivity
from featherweight.techniques.quantize_aware import QuantizeAware
from featherweight.techniques.schedules import (
    ConstantSparsity,
    CustomSchedule,
    PolynomialDecay,
    PruningSchedule,
    SchedulePoint,
)

__all__ = [
    "AUTO",
    "SPEC_VERSION",
    "Augmentation",
    "Block",
    "ChannelOverride",
    "Cluster",
    "CompressionSpec",
    "ConstantRate",
    "ConstantSparsity",
    "CosineRate",
    "CustomSchedule",
    "DataSplit",
    "Decompose",
    "Distill",
    "EarlyStopping",
    "Finetune",
    "FixedRank",
    "KeepMacs",
    "KeepParameters",
    "LayerSelection",
    "NOfM",
    "OutputFormat",
    "PolynomialDecay",
    "Prune",
    "PruneChannels",
    "PruneOverride",
    "PruningSchedule",
    "Quantize",
    "QuantizeAware",
    "RankByEnergy",
    "RankByParameters",
    "RemoveRatio",
    "SchedulePoint",
    "Sensitivity",
    "Step",
    "StepRate",
    "Unstructured",
    "XnnpackLatency",
]

SPEC_VERSION: Final = 1

OutputFormat = Literal["tflite", "keras"]

Step = Annotated[
    Prune | PruneChannels | Cluster | QuantizeAware | Decompose | Finetune | Distill | Quantize,
    Field(discriminator="technique"),
]

_TRAINING = ("finetune", "distill")
_WAITING = ("prune", "cluster", "quantize_aware")
_NEW_WEIGHTS = ("prune_channels", "decompose")


class DataSplit(Part):
    """The share of the samples kept for the final test when the data set brings no test split."""

    test: Annotated[float, Field(gt=0, lt=1)] = 0.2


class CompressionSpec(Part):
    """What is to be done to a model. The spec of one job, version 1."""

    version: Literal[1] = SPEC_VERSION
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=20)]
    outputs: Annotated[tuple[OutputFormat, ...], Field(min_length=1, max_length=8)] = ("tflite",)
    split: DataSplit = DataSplit()
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)] = 0

    @model_validator(mode="after")
    def _sensible_order(self) -> CompressionSpec:
        kinds = [step.technique for step in self.steps]
        if "quantize" in kinds[:-1]:
            raise ValueError("a quantize step must be the last: what follows would undo it or be lost")
        if "quantize" in kinds and "tflite" not in self.outputs:
            raise ValueError("a quantize step needs the output tflite: keras files keep float weights")
        if len(set(self.outputs)) != len(self.outputs):
            raise ValueError("an output is named twice")
        _check_weights_last(kinds)
        _check_quantize_aware(kinds)
        _check_iterations(self.steps)
        return self


def _check_weights_last(kinds: Sequence[str]) -> None:
    """Zeros and shared weights do not survive layers being cut or taken apart."""
    made = None
    for kind in kinds:
        if kind in ("prune", "cluster", "quantize_aware"):
            made = made or kind
        elif kind in _NEW_WEIGHTS and made is not None:
            raise ValueError(f"{kind} after {made} would undo it: put {kind} first")


def _check_quantize_aware(kinds: Sequence[str]) -> None:
    if "quantize_aware" not in kinds:
        return
    place = kinds.index("quantize_aware")
    carried_out = next((kind for kind in kinds[place:] if kind not in _WAITING), None)
    if carried_out not in _TRAINING:
        raise ValueError("quantize_aware needs a finetune or distill step right after it")
    if kinds.count("quantize_aware") > 1 or "quantize" in kinds:
        raise ValueError("quantize_aware already decides how the tflite output is quantised")
    after = kinds[kinds.index(carried_out, place) + 1 :]
    if after:
        raise ValueError(f"nothing can follow the training of quantize_aware, and {after[0]} does")


def _check_iterations(steps: tuple[Step, ...]) -> None:
    for index, step in enumerate(steps):
        if isinstance(step, PruneChannels) and step.iterations > 1:
            following = steps[index + 1].technique if index + 1 < len(steps) else None
            if following not in _TRAINING:
                raise ValueError("iterations need a finetune or distill step right after prune_channels")
