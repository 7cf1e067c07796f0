"""Training: fine-tuning on labels, and distillation from the uploaded model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from featherweight.techniques.parts import LayerPattern, OutputName, Part

__all__ = [
    "Augmentation",
    "ConstantRate",
    "CosineRate",
    "Distill",
    "EarlyStopping",
    "Finetune",
    "LearningRateSchedule",
    "StepRate",
]

Loss = Literal[
    "sparse_categorical_crossentropy",
    "categorical_crossentropy",
    "binary_crossentropy",
    "mean_squared_error",
    "mean_absolute_error",
]
Metrics = Annotated[
    tuple[Literal["accuracy", "binary_accuracy", "mean_squared_error", "mean_absolute_error"], ...],
    Field(min_length=1, max_length=8),
]

# A value for all outputs or one by each one's name: told apart by what it is, so that a fault is said once.
_Mapping = Field(min_length=1, max_length=64)
_One, _ByOutput = Tag("<one>"), Tag("<by output>")
_one_or_by_output = Discriminator(lambda value: "<by output>" if isinstance(value, Mapping) else "<one>")
_WarmUp = Annotated[int, Field(ge=0, le=1_000_000, strict=True)]
_Factor = Annotated[float, Field(ge=0, le=1)]


def _is_none(value: object) -> bool:
    return value is None


class ConstantRate(Part):
    type: Literal["constant"] = "constant"
    warmup_steps: _WarmUp = 0


class CosineRate(Part):
    """Falling along half a cosine (Loshchilov & Hutter 2017) to `final_factor` of the learning rate."""

    type: Literal["cosine"]
    warmup_steps: _WarmUp = 0
    final_factor: _Factor = 0.0


class StepRate(Part):
    """Multiplied by `factor` every `every_epochs` epochs."""

    type: Literal["step"]
    every_epochs: Annotated[int, Field(ge=1, le=1000, strict=True)]
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    warmup_steps: _WarmUp = 0


LearningRateSchedule = Annotated[ConstantRate | CosineRate | StepRate, Field(discriminator="type")]


class EarlyStopping(Part):
    """Stop after `patience` epochs in which the monitored value got no better by `min_delta`.

    Epochs before the schedules of pruning reach their final sparsity do not count.
    """

    patience: Annotated[int, Field(ge=1, le=1000, strict=True)] = 3
    min_delta: Annotated[float, Field(ge=0, le=1000)] = 0.0
    monitor: Literal["val_loss", "val_metric"] = "val_loss"


class Augmentation(Part):
    """Random changes of training images. Shares are of the image's side; nothing is changed by default.

    Samples must have the axes height, width and, if there are any, channels.
    """

    flip_horizontal: bool = False
    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    rotate_degrees: Annotated[float, Field(ge=0, le=45)] = 0.0
    zoom: Annotated[float, Field(ge=0, le=0.5)] = 0.0


class _Training(Part):
    epochs: Annotated[int, Field(ge=1, le=1000, strict=True)] = 2
    batch_size: Annotated[int, Field(ge=1, le=65_536, strict=True)] = 128
    optimizer: Literal["adam", "adamw", "nadam", "rmsprop", "sgd", "sgd_momentum"] = "adam"
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 1e-3
    learning_rate_schedule: LearningRateSchedule = ConstantRate()
    loss: (
        Annotated[
            Annotated[Loss, _One] | Annotated[dict[OutputName, Loss], _Mapping, _ByOutput], _one_or_by_output
        ]
        | None
    ) = None
    metrics: (
        Annotated[
            Annotated[Metrics, _One] | Annotated[dict[OutputName, Metrics], _Mapping, _ByOutput],
            _one_or_by_output,
        ]
        | None
    ) = None
    loss_weights: Annotated[dict[OutputName, Annotated[float, Field(ge=0, le=1e6)]], _Mapping] | None = Field(
        default=None, exclude_if=_is_none
    )
    validation_split: Annotated[float, Field(ge=0, lt=1)] = 0.1
    early_stopping: EarlyStopping | None = None
    keep_best: bool = False
    class_weights: (
        Literal["balanced"]
        | dict[Annotated[str, Field(pattern=r"^\d{1,6}$")], Annotated[float, Field(gt=0, le=1e6)]]
        | None
    ) = None
    augmentation: Augmentation | None = None
    freeze_batch_norm: bool = False
    gradient_clip_norm: Annotated[float, Field(gt=0, le=1e6)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)] | None = None

    @model_validator(mode="after")
    def _validated(self) -> _Training:
        if self.validation_split == 0 and (self.early_stopping is not None or self.keep_best):
            raise ValueError("early_stopping and keep_best need a validation_split above 0")
        return self


class Finetune(_Training):
    """Trains the model on the training split, carrying out the steps right before it.

    Left out, `loss` and `metrics` are taken from the compiled model, else inferred from the last
    layer and the labels; the report says which. For a model with several outputs they may be given by
    the output's name, and `loss_weights` weigh the losses against each other, 1 for those not named;
    an output without labels is trained by none. `learning_rate` is the optimiser's step size, the
    highest that the schedule reaches. `validation_split` is the share of the training samples held
    out for validation. `keep_best` ends with the weights of the epoch that was best on it, among
    those in which the schedules of pruning had reached their final sparsity: best in the loss, or in
    what early stopping monitors. `class_weights` are by label, or ``balanced`` by their frequency, for
    tasks with one class a label. `freeze_batch_norm` leaves statistics, scale and shift as they are.
    `gradient_clip_norm` bounds the norm of all gradients together. `seed` left
    out is the spec's.
    """

    technique: Literal["finetune"]


class Distill(_Training):
    """Trains like ``finetune``, towards the outputs of the uploaded model (Hinton et al. 2015).

    The loss is `weight` times the divergence from the teacher at `temperature` plus the rest times
    that of the labels; with `weight` 1 the data set needs no labels, and outputs are then measured by
    their agreement with the original. Values (a regression) are matched in mean squared error, without
    temperature. Class weights count for both parts of the loss. Of several outputs each has its own
    divergence; those without labels are trained by it alone. `features` are layers whose
    outputs are to match the teacher's of the same name, in mean squared error times `feature_weight`.
    """

    technique: Literal["distill"]
    temperature: Annotated[float, Field(gt=0, le=100)] = 4.0
    weight: Annotated[float, Field(gt=0, le=1)] = 0.9
    features: Annotated[tuple[LayerPattern, ...], Field(max_length=100)] = ()
    feature_weight: Annotated[float, Field(gt=0, le=1e6)] = 1.0
