"""Distillation: what a student is to learn from its teacher (Hinton, Vinyals & Dean 2015)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tasks.compression.backends.torch._framework import fx, nn, torch
from tasks.compression.backends.torch.batches import Batch
from tasks.compression.backends.torch.joint import LEAST, Loss
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.predict import answers, predict
from tasks.compression.backends.torch.steps import Lesson
from tasks.compression.objective import Objective
from tasks.compression.objectives import each_output
from tasks.compression.samples import Tensors
from tasks.compression.teaching import CommonTeaching, unmatched

__all__ = ["Student", "Teaching", "check_features", "divergence"]

Tensor = Any


def divergence(objective: Objective, temperature: float, answers: Tensor, outputs: Tensor) -> Tensor:
    """How far the student's `outputs` are from the teacher's `answers`, at every place of every sample.

    Classes: the Kullback-Leibler divergence of the softmaxes at `temperature` T, times T² so that its
    gradients keep their size (Hinton et al. 2015, section 2). Yes and no: the same of the Bernoulli
    distributions, averaged over the outputs. Values: the mean squared error, without temperature.
    """
    if objective.task == "regression":
        return (outputs - answers).square().mean(-1)
    functional = torch.nn.functional
    theirs, ours = _logits(objective, answers) / temperature, _logits(objective, outputs) / temperature
    if objective.task == "classification":
        gap = functional.log_softmax(theirs, -1) - functional.log_softmax(ours, -1)
        apart = (functional.softmax(theirs, -1) * gap).sum(-1)
    else:
        yes = theirs.sigmoid()
        no_gap = functional.logsigmoid(-theirs) - functional.logsigmoid(-ours)
        yes_gap = functional.logsigmoid(theirs) - functional.logsigmoid(ours)
        apart = (yes * yes_gap + (1.0 - yes) * no_gap).mean(-1)
    return temperature**2 * apart


def _logits(objective: Objective, outputs: Tensor) -> Tensor:
    """Of probabilities: their logarithms, which a softmax turns into them again, or their log odds."""
    if objective.from_logits:
        return outputs
    shares = outputs.clamp(LEAST, 1.0 - LEAST)
    if objective.task == "classification":
        return shares.log()
    return shares.log() - torch.log1p(-shares)


@dataclass(frozen=True)
class Teaching(CommonTeaching):
    teacher: Network

    def asked(self, x: Tensors) -> Tensors:
        return predict(self.teacher.model, self.teacher.signature, x)

    def loss(
        self,
        label_loss: Loss,
        labels: Sequence[Tensor],
        answers: Sequence[Tensor],
        outputs: Sequence[Tensor],
        weights: Tensor | None = None,
    ) -> Tensor:
        """The mean over samples; `weights` are those of the samples. Of several outputs the weighted sum,
        where those without labels have the divergence alone."""
        told = label_loss.each(labels, outputs, weights) if self.step.weight < 1 else {}
        parts = [(name, part) for name, part, _ in each_output(self.objective)]
        total = 0.0
        for (name, part), theirs, ours in zip(parts, answers, outputs, strict=True):
            apart = divergence(part, self.step.temperature, theirs, ours)
            value = (apart if weights is None else apart * weights).mean()
            if name in told:
                value = self.step.weight * value + (1.0 - self.step.weight) * told[name]
            weight = 1.0 if isinstance(self.objective, Objective) else self.objective.weights[name]
            total = total + weight * value
        return total


class Student:
    """What a batch teaches `model`."""

    def __init__(self, teaching: Teaching, model: fx.GraphModule, label_loss: Loss) -> None:
        self._teaching = teaching
        self._model = model
        self._label_loss = label_loss
        self._ours = _Taps(model, teaching.features, "student")
        self._theirs = _Taps(teaching.teacher.model, teaching.features, "teacher")

    def learn(self, batch: Batch) -> Lesson:
        teaching = self._teaching
        shown, theirs = batch.answers, list[Tensor]()
        if shown is None:
            teaching.teacher.model.eval()
            with self._theirs.listening() as theirs, torch.no_grad():
                shown = answers(teaching.teacher.model, batch.inputs)
        with self._ours.listening() as ours:
            outputs = answers(self._model, batch.inputs)
        loss = teaching.loss(self._label_loss, batch.labels, shown, outputs, batch.weights)
        for left, right in zip(ours, theirs, strict=True):
            loss = loss + teaching.step.feature_weight * (left - right).square().mean()
        return Lesson(loss, {}, outputs)


class _Taps:
    """Hears what the layers `features` of `model` answer, each the first time it is called."""

    def __init__(self, model: fx.GraphModule, features: Sequence[str], role: str) -> None:
        layers = dict(model.named_modules())
        self._gone = f"an earlier step took the layer out of the {role}"
        self._layers = {name: self._found(layers.get(name), name) for name in features}

    @contextmanager
    def listening(self) -> Iterator[list[Tensor]]:
        """Gives a list that at the end holds what was heard, in the order of the features."""
        told: list[Tensor] = []
        heard: dict[str, Tensor] = {}
        hooks = [layer.register_forward_hook(_hearing(name, heard)) for name, layer in self._layers.items()]
        try:
            yield told
            # One that is there and not called has become a part of something else.
            told += [self._found(heard.get(name), name) for name in self._layers]
        finally:
            for hook in hooks:
                hook.remove()

    def _found(self, what: Any, name: str) -> Any:
        if what is None:
            raise unmatched(name, self._gone)
        return what


def _hearing(name: str, heard: dict[str, Tensor]) -> Any:
    def hear(layer: nn.Module, given: Any, answer: Any) -> None:
        # Recurrent layers and attention hand more over than their output.
        heard.setdefault(name, answer if isinstance(answer, torch.Tensor) else answer[0])

    return hear


def check_features(teaching: Teaching, network: Network, x: Tensors, pointer: str) -> None:
    """CompressionError layer_not_supported where an earlier step changed a feature's shape, or took its
    layer away; `x` are a sample or two."""
    if not teaching.features:
        return
    ours = _shapes(network, teaching.features, "student", x)
    theirs = _shapes(teaching.teacher, teaching.features, "teacher", x)
    for name, left, right in zip(teaching.features, ours, theirs, strict=True):
        if left != right:
            raise unmatched(name, "an earlier step changed the shape of its output", pointer)


def _shapes(network: Network, features: Sequence[str], role: str, x: Tensors) -> list[tuple[int, ...]]:
    with _Taps(network.model, features, role).listening() as heard:
        predict(network.model, network.signature, x)
    return [tuple(tensor.shape) for tensor in heard]
