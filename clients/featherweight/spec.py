"""The compression spec, version 1: what a caller may ask for, and the bounds of every value.

    CompressionSpec
    ├── steps[]          in the order they are applied, told apart by ``technique``
    │   ├── Prune        schedule: ConstantSparsity | PolynomialDecay
    │   ├── Finetune     trains; carries out the prune steps right before it
    │   └── Quantize     scheme: float16 | dynamic_int8 | full_int8
    ├── outputs[]        tflite | keras
    ├── split            train / validation / test, made once by the service
    └── seed

A ``prune`` step followed by ``finetune`` follows its schedule while that step trains; with no
``finetune`` right after it, the weights are pruned at once (one-shot) to the schedule's final
sparsity. Every later ``finetune`` keeps the zeros that earlier steps made.

Unknown keys are refused and every number has a bound, so that a misspelt key is an error at its
place rather than a default silently used.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

__all__ = [
    "AUTO",
    "SPEC_VERSION",
    "CompressionSpec",
    "ConstantSparsity",
    "DataSplit",
    "Finetune",
    "LayerSelection",
    "OutputFormat",
    "PolynomialDecay",
    "Prune",
    "PruningSchedule",
    "Quantize",
    "Step",
]

SPEC_VERSION: Final = 1
AUTO: Final = "auto"

_MAX_STEP = 10_000_000

Sparsity = Annotated[float, Field(ge=0.0, lt=1.0, allow_inf_nan=False)]
StepNumber = Annotated[int, Field(ge=0, le=_MAX_STEP, strict=True)]
Frequency = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
LayerPattern = Annotated[str, StringConstraints(min_length=1, max_length=200)]
OutputFormat = Literal["tflite", "keras"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LayerSelection(_Part):
    """Layers by name, as shell patterns (``*``, ``?``, ``[ab]``; case matters).

    A layer is selected when it matches one of `include` and none of `exclude`. A pattern that
    matches no layer of the model fails the job with ``layer_not_found``.
    """

    include: Annotated[tuple[LayerPattern, ...], Field(min_length=1, max_length=1000)] = ("*",)
    exclude: Annotated[tuple[LayerPattern, ...], Field(max_length=1000)] = ()


class ConstantSparsity(_Part):
    """The same sparsity from `begin_step` on.

    Steps are optimiser steps (batches). ``auto`` for `begin_step` is 0, for `end_step` the last
    step of the fine-tuning that carries the schedule out. Masks are updated at both and every
    `frequency` steps in between; ``auto`` is a twentieth of the way, at most 100.
    """

    type: Literal["constant_sparsity"] = "constant_sparsity"
    target_sparsity: Sparsity = 0.5
    begin_step: StepNumber | Literal["auto"] = AUTO
    end_step: StepNumber | Literal["auto"] = AUTO
    frequency: Frequency | Literal["auto"] = AUTO

    @property
    def final_sparsity(self) -> float:
        return self.target_sparsity

    @model_validator(mode="after")
    def _steps_in_order(self) -> ConstantSparsity:
        _check_order(self.begin_step, self.end_step)
        return self


class PolynomialDecay(_Part):
    """Sparsity rising from `initial_sparsity` to `final_sparsity` (Zhu & Gupta 2017, equation 1).

    At step t between `begin_step` and `end_step`, with u = (t - begin) / (end - begin):
    ``final + (initial - final) * (1 - u) ** power``. ``auto`` for `begin_step` is 0, for
    `end_step` the last step of the fine-tuning (``ceil(training samples / batch size) * epochs``).
    Masks are updated at both and every `frequency` steps in between; ``auto`` is a twentieth of the
    way, at most 100.
    """

    type: Literal["polynomial_decay"] = "polynomial_decay"
    initial_sparsity: Sparsity = 0.5
    final_sparsity: Sparsity = 0.8
    begin_step: StepNumber | Literal["auto"] = AUTO
    end_step: StepNumber | Literal["auto"] = AUTO
    power: Annotated[float, Field(gt=0, le=20)] = 3.0
    frequency: Frequency | Literal["auto"] = AUTO

    @model_validator(mode="after")
    def _steps_in_order(self) -> PolynomialDecay:
        _check_order(self.begin_step, self.end_step)
        return self


def _check_order(begin: int | str, end: int | str) -> None:
    if isinstance(begin, int) and isinstance(end, int) and begin >= end:
        raise ValueError(f"end_step ({end}) must be greater than begin_step ({begin})")


PruningSchedule = Annotated[ConstantSparsity | PolynomialDecay, Field(discriminator="type")]


class Prune(_Part):
    """Unstructured magnitude pruning per layer (Zhu & Gupta 2017): the smallest weights become zero.

    `on_unsupported` says what happens to a selected layer that cannot be pruned but has weights:
    ``skip`` leaves it as it is and reports it, ``error`` fails the job with its name.
    """

    technique: Literal["prune"]
    schedule: PruningSchedule = PolynomialDecay()
    layers: LayerSelection = LayerSelection()
    on_unsupported: Literal["error", "skip"] = "skip"


class Finetune(_Part):
    """Trains the model on the training split, carrying out the prune steps right before it.

    Left out, `loss` and `metrics` are taken from the compiled model, else inferred from the last
    layer and the labels; the report says which. `learning_rate` is the optimiser's step size.
    `validation_split` is the share of the training samples held out for validation.
    `seed` left out is the spec's.
    """

    technique: Literal["finetune"]
    epochs: Annotated[int, Field(ge=1, le=1000, strict=True)] = 2
    batch_size: Annotated[int, Field(ge=1, le=65_536, strict=True)] = 128
    optimizer: Literal["adam", "adamw", "nadam", "rmsprop", "sgd", "sgd_momentum"] = "adam"
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 1e-3
    loss: (
        Literal[
            "sparse_categorical_crossentropy",
            "categorical_crossentropy",
            "binary_crossentropy",
            "mean_squared_error",
            "mean_absolute_error",
        ]
        | None
    ) = None
    metrics: (
        Annotated[
            tuple[Literal["accuracy", "binary_accuracy", "mean_squared_error", "mean_absolute_error"], ...],
            Field(min_length=1, max_length=8),
        ]
        | None
    ) = None
    validation_split: Annotated[float, Field(ge=0, lt=1)] = 0.1
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)] | None = None


class Quantize(_Part):
    """Post-training quantisation of the TFLite output; ``keras`` outputs keep float weights.

    float16       weights stored in 16 bits, computed in float
    dynamic_int8  weights int8 per channel, activations quantised while running; needs no data
    full_int8     weights and activations int8, activation ranges calibrated on
                  `calibration_samples` samples of the training split

    `io_dtype` is the type of the model's inputs and outputs under ``full_int8``.
    """

    technique: Literal["quantize"]
    scheme: Literal["float16", "dynamic_int8", "full_int8"] = "full_int8"
    calibration_samples: Annotated[int, Field(ge=1, le=100_000, strict=True)] = 200
    io_dtype: Literal["float32", "int8"] = "float32"


Step = Annotated[Prune | Finetune | Quantize, Field(discriminator="technique")]


class DataSplit(_Part):
    """The share of the samples kept for the final test when the data set brings no test split."""

    test: Annotated[float, Field(gt=0, lt=1)] = 0.2


class CompressionSpec(_Part):
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
        return self
