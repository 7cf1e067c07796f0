"""The losses and metrics of a training: of one output, or of several with the weighted sum of losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.compression.backends.torch._framework import torch
from tasks.compression.objective import Objective
from tasks.compression.objectives import Aim, each_output
from tasks.compression.samples import Tensors, arrays_of

__all__ = ["LEAST", "Loss", "RunningMetrics", "loss_of", "outputs_of", "targets_of"]

LEAST = 1e-7
"""Below it a probability is taken for it, as Keras' losses do."""

Tensor = Any
OneOrMore = Any
"""A tensor, or a sequence of one for each output of the model, in its order."""


def outputs_of(answer: OneOrMore) -> tuple[Tensor, ...]:
    """What a network answered with, one tensor for each output."""
    return tuple(answer) if isinstance(answer, Sequence) else (answer,)


def targets_of(labels: Tensors) -> tuple[Tensor, ...]:
    """Labels, or answers, as the losses take them."""
    return tuple(target(array) for array in arrays_of(labels))


def target(array: Any) -> Tensor:
    """Class numbers as int64, everything else as float32."""
    kind = torch.int64 if array.dtype.kind in "biu" else torch.float32
    return torch.tensor(array, dtype=kind)


def loss_of(aim: Aim, *, everything: bool = False) -> Loss:
    """The loss of an aim, the mean over the samples. With `everything` outputs without labels count too,
    towards the original's answers."""
    return Loss(aim, everything=everything)


class Loss:
    """The sum of the losses of the outputs that have labels, or of all where none has or `everything` is
    asked for, each times its weight."""

    def __init__(self, aim: Aim, *, everything: bool = False) -> None:
        self._parts = {name: part for name, part, _ in each_output(aim)}
        known: Mapping[str, Objective] = self._parts
        self._weights: Mapping[str, float] = {"": 1.0}
        if not isinstance(aim, Objective):
            known = aim.by_output if everything or not aim.labelled else aim.labelled
            self._weights = aim.weights
        self._known = frozenset(known)

    def __call__(self, labels: OneOrMore, outputs: OneOrMore, weights: Tensor | None = None) -> Tensor:
        """`weights` are those of the samples, or of the places in them that have a label each."""
        return self.total(self.each(labels, outputs, weights))

    def each(self, labels: OneOrMore, outputs: OneOrMore, weights: Tensor | None = None) -> dict[str, Tensor]:
        """The loss of every output that has one, without its weight."""
        pairs = zip(self._parts.items(), outputs_of(labels), outputs_of(outputs), strict=True)
        return {
            name: _one_loss(part, truth, given, weights)
            for (name, part), truth, given in pairs
            if name in self._known
        }

    def total(self, each: Mapping[str, Tensor]) -> Tensor:
        return sum(self._weights[name] * value for name, value in each.items())


def _one_loss(objective: Objective, labels: Tensor, outputs: Tensor, weights: Tensor | None) -> Tensor:
    losses = _losses(objective, labels, outputs)
    return losses.mean() if weights is None else (losses * weights).mean()


def _losses(objective: Objective, labels: Tensor, outputs: Tensor) -> Tensor:
    """Of every place of every sample that has a label, with the classes or values of the place averaged."""
    functional = torch.nn.functional
    if objective.loss == "mean_squared_error":
        return functional.mse_loss(outputs, labels.to(outputs.dtype), reduction="none").mean(-1)
    if objective.loss == "mean_absolute_error":
        return functional.l1_loss(outputs, labels.to(outputs.dtype), reduction="none").mean(-1)
    if objective.loss == "binary_crossentropy":
        return _binary_losses(objective, labels.to(outputs.dtype), outputs).mean(-1)
    logits = outputs if objective.from_logits else outputs.clamp(LEAST, 1.0 - LEAST).log()
    classes = outputs.shape[-1]
    flat = functional.cross_entropy(logits.reshape(-1, classes), labels.reshape(-1), reduction="none")
    return flat.reshape(labels.shape)


def _binary_losses(objective: Objective, labels: Tensor, outputs: Tensor) -> Tensor:
    if objective.from_logits:
        return torch.nn.functional.binary_cross_entropy_with_logits(outputs, labels, reduction="none")
    shares = outputs.clamp(LEAST, 1.0 - LEAST)
    return -(labels * (shares + LEAST).log() + (1.0 - labels) * (1.0 - shares + LEAST).log())


class RunningMetrics:
    """The means, over the samples of an epoch so far, of the loss and of what the aim is measured by."""

    def __init__(self, aim: Aim, *, losses: bool) -> None:
        """With `losses` each of several outputs' own loss is told too."""
        self._parts = [(name, part) for name, part, _ in each_output(aim)]
        self._losses = losses and len(self._parts) > 1
        self.sums: dict[str, tuple[float, int]] = {}

    def begin(self) -> None:
        self.sums = {}

    def update(
        self,
        loss: Tensor,
        each: Mapping[str, Tensor],
        labels: Sequence[Tensor],
        outputs: Sequence[Tensor],
    ) -> None:
        count = len(outputs[0])
        self._add("loss", loss.item() * count, count)
        if self._losses:
            for name, value in each.items():
                self._add(f"{name}_loss", value.item() * count, count)
        for (name, part), truth, given in zip(self._parts, labels, outputs, strict=True):
            for metric in part.metrics:
                called = f"{name}_{part.called(metric)}" if name else part.called(metric)
                self._add(called, *_measured(metric, part, truth, given))

    def values(self) -> dict[str, float]:
        return {name: total / count for name, (total, count) in self.sums.items()}

    def _add(self, name: str, total: float, count: int) -> None:
        before, counted = self.sums.get(name, (0.0, 0))
        self.sums[name] = before + total, counted + count


def _measured(metric: str, objective: Objective, labels: Tensor, outputs: Tensor) -> tuple[float, int]:
    """The sum of a metric over the places of a batch, and their number."""
    if metric == "mean_squared_error":
        return float((outputs - labels).square().sum()), outputs.numel()
    if metric == "mean_absolute_error":
        return float((outputs - labels).abs().sum()), outputs.numel()
    if objective.task == "classification":
        return int((outputs.argmax(-1) == labels).sum()), labels.numel()
    hits = (outputs > (0.0 if objective.from_logits else 0.5)) == (labels > 0.5)
    return int(hits.sum()), hits.numel()
