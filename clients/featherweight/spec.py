"""The compression spec, version 1: what a caller may ask for, and the bounds of every value.

    CompressionSpec
    ├── steps[]                    in the order they are applied, told apart by ``technique``
    │   ├── change the network     PruneChannels, Decompose
    │   ├── change the weights     Prune
    │   ├── train                  Finetune, Distill
    │   └── convert                Quantize
    ├── outputs[]                  tflite | keras
    ├── split                      train / validation / test, made once by the service
    ├── data                       how the data set is read, where it is no .npz
    └── seed

A step that changes the weights is carried out *while* the training step right after it trains: its
schedule runs. Several may stand before the same training step. Without one right after it, ``prune``
is applied at once (one-shot, to the schedule's final sparsity). The zeros a step made every later
step keeps; nobody has to ask for it. ``prune_channels`` and ``decompose`` come before them, and are
done at once.

Unknown keys are refused and every number has a bound, so that a misspelt key is an error at its
place rather than a default silently used.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from featherweight.data import CsvReading, DataReading, ImageReading, RecordFeature, RecordReading
from featherweight.techniques.decompose import (
    Decompose,
    FixedRank,
    RankByBudget,
    RankByEnergy,
    RankByParameters,
)
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
    "CompressionSpec",
    "ConstantRate",
    "ConstantSparsity",
    "CosineRate",
    "CsvReading",
    "CustomSchedule",
    "DataReading",
    "DataSplit",
    "Decompose",
    "Distill",
    "EarlyStopping",
    "Finetune",
    "FixedRank",
    "ImageReading",
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
    "RankByBudget",
    "RankByEnergy",
    "RankByParameters",
    "RecordFeature",
    "RecordReading",
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
    Prune | PruneChannels | Decompose | Finetune | Distill | Quantize,
    Field(discriminator="technique"),
]


def _is_none(value: object) -> bool:
    return value is None


class DataSplit(Part):
    """The share of the samples kept for the final test when the data set brings no test split."""

    test: Annotated[float, Field(gt=0, lt=1)] = 0.2


class CompressionSpec(Part):
    """What is to be done to a model. The spec of one job, version 1.

    `tflite_names` says whether the ``tflite`` output keeps the names of its inner tensors and the
    converter's metadata, which tools that show a network can use, or is stripped of them: inputs,
    outputs and signatures keep their names, the answers are the same, and a small file gzips to
    some 600 bytes less.
    """

    version: Literal[1] = SPEC_VERSION
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=20)]
    outputs: Annotated[tuple[OutputFormat, ...], Field(min_length=1, max_length=8)] = ("tflite",)
    tflite_names: Literal["strip", "keep"] = "strip"
    split: DataSplit = DataSplit()
    data: DataReading | None = Field(default=None, exclude_if=_is_none)
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
        _check_network_first(kinds)
        return self


_CHANGE_THE_NETWORK = ("prune_channels", "decompose")


def _check_network_first(kinds: Iterable[str]) -> None:
    """Zeros at chosen places do not survive layers being cut or replaced."""
    pruned = False
    for kind in kinds:
        if kind in _CHANGE_THE_NETWORK and pruned:
            raise ValueError(f"{kind} after prune would undo it: put {kind} first")
        pruned = pruned or kind == "prune"
