"""Optimiser steps: what one batch does to a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from featherweight.spec import Distill, Finetune
from tasks.compression.backends.torch._framework import fx
from tasks.compression.backends.torch.batches import Batch
from tasks.compression.backends.torch.joint import Loss
from tasks.compression.backends.torch.norms import Norms
from tasks.compression.backends.torch.optimisers import clip_together, optimiser
from tasks.compression.backends.torch.predict import answers
from tasks.compression.backends.torch.training_parts import TrainingPart
from tasks.compression.errors import CompressionError
from tasks.compression.rates import Rate, changes

__all__ = ["FromLabels", "Learning", "Lesson", "Stepping"]

Tensor = Any


class Lesson(NamedTuple):
    """The loss of a batch, which of several outputs gave how much of it, and what the network answered."""

    loss: Tensor
    each: Mapping[str, Tensor]
    outputs: tuple[Tensor, ...]


class Learning(Protocol):
    def learn(self, batch: Batch) -> Lesson: ...


class FromLabels:
    """What a batch teaches `model` by its labels alone."""

    def __init__(self, model: fx.GraphModule, loss: Loss) -> None:
        self._model = model
        self._loss = loss

    def learn(self, batch: Batch) -> Lesson:
        outputs = answers(self._model, batch.inputs)
        each = self._loss.each(batch.labels, outputs, batch.weights)
        return Lesson(self._loss.total(each), each, outputs)


class Stepping:
    """Takes the steps of a training of `step.epochs` epochs of `per_epoch` steps.

    CompressionError unsupported_model for a model without weights to train.
    """

    def __init__(
        self,
        model: fx.GraphModule,
        learning: Learning,
        step: Finetune | Distill,
        parts: Sequence[TrainingPart],
        norms: Norms,
        per_epoch: int,
    ) -> None:
        self._model = model
        self._learning = learning
        self._parts = parts
        self._norms = norms
        self._rate = Rate(step, per_epoch) if changes(step) else None
        self._bound = step.gradient_clip_norm
        self._parameters = [value for value in model.parameters() if value.requires_grad]
        if not self._parameters:
            raise CompressionError(
                "unsupported_model",
                "the model has no weights that could be trained",
                hint="export the model with parameters that require gradients",
            )
        self.optimiser = optimiser(step, self._parameters)
        self.epochs = step.epochs
        self.per_epoch = per_epoch

    def begin_epoch(self) -> None:
        self._model.train()
        self._norms.begin_epoch()

    def take(self, batch: Batch, number: int) -> Lesson:
        """The step of that number in the whole training, from 1."""
        for part in self._parts:
            part.before_step(number)
        if self._rate is not None:
            for group in self.optimiser.param_groups:
                group["lr"] = self._rate(number - 1)
        self.optimiser.zero_grad()
        with self._norms.of(len(batch.inputs[0])):
            lesson = self._learning.learn(batch)
        lesson.loss.backward()
        if self._bound is not None:
            clip_together(self._parameters, self._bound)
        self.optimiser.step()
        for part in self._parts:
            part.after_step(number)
        return Lesson(
            lesson.loss.detach(),
            {name: value.detach() for name, value in lesson.each.items()},
            tuple(output.detach() for output in lesson.outputs),
        )

    def end(self) -> None:
        """Leave the model in evaluation, without gradients."""
        self.optimiser.zero_grad()
        self._model.eval()
