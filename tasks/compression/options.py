"""What of a training step's options goes with this model and these labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from featherweight.spec import Distill, Finetune
from tasks.compression.errors import CompressionError
from tasks.compression.facts import ModelFacts, Shape
from tasks.compression.objective import Objective
from tasks.compression.objectives import Aim, Objectives, each_output
from tasks.compression.samples import Array

__all__ = ["check_options", "class_weights", "image_place", "label_weights"]

_IMAGE_AXES = (2, 3)  # of a sample: (height, width) and (height, width, channels)


def check_options(step: Finetune | Distill, aim: Aim, facts: ModelFacts, pointer: str) -> None:
    """CompressionError invalid_request, its pointer below `pointer`, for an option that cannot be had."""
    if step.class_weights is not None:
        if isinstance(aim, Objectives):
            raise _refused(
                f"class_weights are for models of one output, and this has {len(aim.by_output)}",
                "loss_weights weigh its outputs",
                f"{pointer}/class_weights",
            )
        _check_class_weights(step, aim, f"{pointer}/class_weights")
    if step.augmentation is not None:
        _check_augmentation(aim, facts, f"{pointer}/augmentation")


def image_place(shapes: Sequence[Shape]) -> int | None:
    """Which of the inputs, with samples of these `shapes`, is the only one with the axes of an image."""
    places = [index for index, shape in enumerate(shapes) if len(shape) in _IMAGE_AXES]
    return places[0] if len(places) == 1 else None


def class_weights(
    step: Finetune | Distill, objective: Objective, train: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """The weight of every class. ``balanced`` gives a class n / (classes * its count), both counted in the
    training labels, so that all classes weigh the same and a sample weighs 1 on average (King & Zeng 2001);
    classes without a training label, and those not named, weigh 1."""
    assert objective.classes is not None
    weights = np.ones(objective.classes, dtype=np.float32)
    if isinstance(step.class_weights, dict):
        for label, weight in step.class_weights.items():
            weights[int(label)] = weight
        return weights
    labels, counts = np.unique(objective.labels[train].astype(np.int64), return_counts=True)
    weights[labels] = counts.sum() / (len(labels) * counts)
    return weights


def label_weights(step: Finetune | Distill, aim: Aim, train: npt.NDArray[np.int64]) -> Array | None:
    """The weight of every sample, or of every place in it that has a label: that of its class. None where the
    step asks for none."""
    if step.class_weights is None or not isinstance(aim, Objective):
        return None
    labels = aim.labels.astype(np.int64)
    places = labels[..., 0] if aim.task == "binary" else labels
    weights: Array = class_weights(step, aim, train)[places]
    return weights


def _check_class_weights(step: Finetune | Distill, objective: Objective, pointer: str) -> None:
    if objective.task not in ("classification", "binary") or objective.classes is None:
        raise _refused(
            f"class_weights need one class a label, and this is a {objective.task} task", None, pointer
        )
    if objective.labels_from == "original":
        raise _refused("class_weights need labels, and the data set has none", "leave them out", pointer)
    named = step.class_weights if isinstance(step.class_weights, dict) else {}
    for label in named:
        if int(label) >= objective.classes:
            raise _refused(
                f"class_weights name the label {label}; the model has the classes 0 to "
                f"{objective.classes - 1}",
                None,
                f"{pointer}/{label}",
            )


def _check_augmentation(aim: Aim, facts: ModelFacts, pointer: str) -> None:
    if image_place(facts.inputs) is None:
        raise _refused(
            f"augmentation is for images, and {_axes(facts)}",
            "images have the axes height, width and, if there are any, channels",
            pointer,
        )
    for output, (_, part, _) in zip(facts.outputs, each_output(aim), strict=True):
        if len(output) > 1 and part.labels_from != "inputs":
            raise _refused(
                "augmentation would move the images and not what the labels say of their places",
                "leave it out where the model answers with an image",
                pointer,
            )


def _axes(facts: ModelFacts) -> str:
    if len(facts.inputs) == 1:
        return f"the model takes samples of {len(facts.inputs[0])} axes"
    images = [
        name for name, shape in zip(facts.input_names, facts.inputs, strict=True) if len(shape) in _IMAGE_AXES
    ]
    if images:
        return f"the inputs {', '.join(images)} may all be: which one to change cannot be told"
    return "none of the model's inputs is one"


def _refused(detail: str, hint: Any, pointer: str) -> CompressionError:
    return CompressionError("invalid_request", detail, hint=hint, pointer=pointer)
