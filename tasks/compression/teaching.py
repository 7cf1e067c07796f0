"""Distillation, whatever the framework: what a teacher is asked, and which layers it is compared at."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featherweight.spec import Distill, LayerSelection
from tasks.compression.context import Context
from tasks.compression.errors import CompressionError
from tasks.compression.layers import Placed
from tasks.compression.objectives import Aim, each_output
from tasks.compression.samples import Array, Tensors, arrays_of, gathered
from tasks.compression.waiting import TrainingStep

__all__ = ["CommonTeaching", "known_answers", "note", "selected_features", "unmatched"]


@dataclass(frozen=True)
class CommonTeaching:
    """What a student learns from a `teacher` that nothing trains; `features` are the paths of the layers to
    match."""

    step: Distill
    objective: Aim
    teacher: Any
    features: tuple[str, ...]

    @property
    def once(self) -> bool:
        """Whether what the teacher says of a sample is the same each time, and can be asked for once."""
        return self.step.augmentation is None and not self.features

    def answers(self, x: Tensors, indices: Array) -> Tensors:
        """The teacher's outputs for the samples `indices` of `x`; rows of zeros for the others."""
        given = arrays_of(self.asked(x[indices]))
        answers = [np.zeros((len(x), *output.shape[1:]), np.float32) for output in given]
        for whole, part in zip(answers, given, strict=True):
            whole[indices] = part
        return gathered([name for name, _, _ in each_output(self.objective)], answers)

    @abstractmethod
    def asked(self, x: Tensors) -> Tensors:
        """The teacher's outputs for samples."""


def known_answers(teaching: CommonTeaching | None, step: TrainingStep, context: Context) -> Tensors | None:
    """The teacher's, of the samples for which they are needed and never change."""
    if teaching is None:
        return None
    data = context.training_data
    validation = data.validation if step.validation_split else data.validation[:0]
    indices = np.union1d(data.train, validation) if teaching.once else validation
    return teaching.answers(data.x, indices) if len(indices) else None


def selected_features(
    model: Any,
    step: Distill,
    pointer: str,
    select: Callable[[Any, LayerSelection, str], Sequence[Placed]],
) -> Iterator[tuple[Placed, str]]:
    """The layers that `step.features`, at `pointer`, names, each with the pointer of its pattern.

    CompressionError layer_not_found for a pattern that matches none."""
    # One selection a pattern, so that the pointer is that of the pattern in the list.
    for index, pattern in enumerate(step.features):
        where = f"{pointer}/{index}"
        try:
            chosen = select(model, LayerSelection(include=(pattern,)), pointer)
        except CompressionError as error:
            error.pointer = where
            raise
        for place in chosen:
            yield place, where


def note(step: Distill, features: Sequence[str], context: Context) -> None:
    context.record.details.update(
        teacher="the uploaded model",
        temperature=step.temperature,
        weight=step.weight,
        features=list(features),
    )


def unmatched(name: str, why: str, pointer: str | None = None) -> CompressionError:
    """For a layer whose output a student has not, or not in the teacher's shape."""
    return CompressionError(
        "layer_not_supported",
        f"the output of the layer {name} cannot be matched with the teacher's: {why}",
        hint="name layers in features that the steps before leave their outputs",
        layer=name,
        pointer=pointer,
    )
