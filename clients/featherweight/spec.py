"""The compression spec, version 1: what a caller may ask for, and the bounds of every value.

    CompressionSpec
    ├── steps[]                    in the order they are applied, told apart by ``technique``
    │   ├── change the network     PruneChannels, Decompose
    │   ├── change the weights     Prune, Cluster, QuantizeAware
    │   ├── train                  Finetune, Distill
    │   └── convert                Quantize
    ├── outputs[]                  OutputFormat
    ├── on_unsupported             what to do about an output that the network cannot be written as
    ├── split                      train / validation / test, made once by the service
    ├── data                       how the data set is read, where it is no .npz
    └── seed

A step that changes the weights is carried out *while* the training step right after it trains: its
schedule runs. Several may stand before the same training step, which carries them out together. Without
one right after it, ``prune`` is applied at once (one-shot, to the schedule's final sparsity), and
``cluster`` too. The zeros a step made, and the few values, every later step keeps; nobody has to ask for
it. ``prune_channels`` and ``decompose`` come before them; they are done at once, ``prune_channels`` with
`iterations` in rounds with the training step right after it.

Unknown keys are refused and every number has a bound, so that a misspelt key is an error at its
place rather than a default silently used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints, model_validator

from featherweight.data import CsvReading, DataReading, ImageReading, RecordFeature, RecordReading
from featherweight.techniques.cluster import Cluster, ClusterOverride
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
from featherweight.techniques.parts import AUTO, LayerSelection, OnUnsupported, Part
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
    "ClusterOverride",
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
    "QuantizeAware",
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
    "TfliteMetadata",
    "Unstructured",
    "XnnpackLatency",
]

SPEC_VERSION: Final = 1

OutputFormat = Literal["tflite", "keras", "saved_model", "c_array", "onnx", "pt2", "pte"]
"""tflite        ``model.tflite``, for LiteRT
keras         ``model.keras``, of the Keras that the model came from
saved_model   ``saved_model.tar.gz``, for TensorFlow and its servers
c_array       ``model.c`` and ``model.h``: the ``.tflite`` as an array, for microcontrollers
onnx          ``model.onnx``
pt2           ``model.pt2``, a program of ``torch.export``
pte           ``model.pte``, for ExecuTorch

Quantisation is in ``tflite`` and ``c_array``, and ``quantize`` of a PyTorch model in the last three too; all
others hold float weights.
"""

Step = Annotated[
    Prune | PruneChannels | Decompose | Cluster | QuantizeAware | Finetune | Distill | Quantize,
    Field(discriminator="technique"),
]


Label = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=r"^[^\r\n]+$")]


def _is_none(value: object) -> bool:
    return value is None


class DataSplit(Part):
    """The share of the samples kept for the final test when the data set brings no test split."""

    test: Annotated[float, Field(gt=0, lt=1)] = 0.2


class TfliteMetadata(Part):
    """What the ``tflite`` and ``c_array`` outputs say of themselves, by TFLite's metadata schema, for tools
    and generated code. `labels` name the classes, one for each value of the model's only output in their
    order; they are packed into the file as ``labels.txt``."""

    name: Annotated[str, Field(max_length=200)] = ""
    description: Annotated[str, Field(max_length=10_000)] = ""
    version: Annotated[str, Field(max_length=200)] = ""
    author: Annotated[str, Field(max_length=1000)] = ""
    license: Annotated[str, Field(max_length=10_000)] = ""
    labels: Annotated[tuple[Label, ...], Field(max_length=100_000)] = ()

    @model_validator(mode="after")
    def _says_something(self) -> TfliteMetadata:
        if not any(getattr(self, name) for name in TfliteMetadata.model_fields):
            raise ValueError("tflite_metadata says nothing: give one of its fields, or leave it out")
        return self


class CompressionSpec(Part):
    """What is to be done to a model. The spec of one job, version 1.

    `tflite_names` says whether the ``tflite`` output keeps the names of its inner tensors and the
    converter's metadata, which tools that show a network can use, or is stripped of them: inputs,
    outputs and signatures keep their names, the answers are the same, and a small file gzips to
    some 600 bytes less.

    `on_unsupported` says what happens where the network cannot be written as one of the `outputs`, since the
    converter has nothing for a layer, or the format's runtime does not run what was written: ``error`` ends
    the job, ``skip`` delivers the others, and the report says which is missing and why. A job that nothing is
    left of ends all the same, and so does one with an output that answers otherwise than the network. Steps
    have an `on_unsupported` of their own, for layers.
    """

    version: Literal[1] = SPEC_VERSION
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=20)]
    outputs: Annotated[tuple[OutputFormat, ...], Field(min_length=1, max_length=8)] = ("tflite",)
    on_unsupported: OnUnsupported = "error"
    tflite_names: Literal["strip", "keep"] = "strip"
    tflite_metadata: TfliteMetadata | None = None
    split: DataSplit = DataSplit()
    data: DataReading | None = Field(default=None, exclude_if=_is_none)
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)] = 0

    @model_validator(mode="after")
    def _sensible_order(self) -> CompressionSpec:
        kinds = [step.technique for step in self.steps]
        if "quantize" in kinds[:-1]:
            raise ValueError("a quantize step must be the last: what follows would undo it or be lost")
        if "quantize" in kinds and not _hold_integers(self.outputs):
            raise ValueError(
                "a quantize step needs the output tflite or c_array, of a PyTorch model onnx, pt2 or pte: "
                "others hold float weights"
            )
        if self.tflite_metadata is not None and _QUANTISED.isdisjoint(self.outputs):
            raise ValueError("tflite_metadata needs the output tflite or c_array")
        if len(set(self.outputs)) != len(self.outputs):
            raise ValueError("an output is named twice")
        _check_network_first(kinds)
        _check_iterations(self.steps)
        if "quantize_aware" in kinds:
            _check_quantize_aware(kinds)
            if _QUANTISED.isdisjoint(self.outputs):
                raise ValueError(
                    "quantize_aware needs the output tflite or c_array: others hold float weights"
                )
        return self


_QUANTISED = frozenset({"tflite", "c_array"})
_QUANTISED_OF_TORCH = frozenset({"pt2", "pte"})
_OF_TENSORFLOW = frozenset({"keras", "saved_model"})
_CHANGE_THE_NETWORK = ("prune_channels", "decompose")


def _hold_integers(outputs: Iterable[str]) -> bool:
    """Whether one of them may: an ``.onnx`` holds integers of PyTorch models alone."""
    named = set(outputs)
    if named & (_QUANTISED | _QUANTISED_OF_TORCH):
        return True
    return "onnx" in named and not named & _OF_TENSORFLOW


def _check_network_first(kinds: Iterable[str]) -> None:
    """Zeros at chosen places, and shared values, do not survive layers being cut or replaced."""
    undone = None
    for kind in kinds:
        if kind in _CHANGE_THE_NETWORK and undone is not None:
            raise ValueError(f"{kind} after {undone} would undo it: put {kind} first")
        undone = kind if undone is None and kind in ("prune", "cluster") else undone


def _check_quantize_aware(kinds: Sequence[str]) -> None:
    """The ranges it learns are those of the network as its training leaves it."""
    place = kinds.index("quantize_aware")
    if "quantize" in kinds or kinds.count("quantize_aware") > 1:
        raise ValueError("quantize_aware already decides how the tflite output is quantised")
    if kinds[place + 1 : place + 2] not in (["finetune"], ["distill"]):
        raise ValueError("quantize_aware needs a finetune or distill step right after it, to carry it out")
    if len(kinds) > place + 2:
        raise ValueError(f"nothing can follow the training of quantize_aware, and {kinds[place + 2]} does")


def _check_iterations(steps: Sequence[Step]) -> None:
    """Between two cuts there is a training, and after the last."""
    for index, step in enumerate(steps):
        following = steps[index + 1] if index + 1 < len(steps) else None
        waits = isinstance(step, PruneChannels) and step.iterations > 1
        if waits and not isinstance(following, Finetune | Distill):
            raise ValueError(
                "prune_channels with iterations above 1 needs a finetune or distill step right after it, "
                "which runs after each cut; put prune and cluster after that one, with their own training"
            )
