"""Training of several outputs at once: the weighted sum of their losses, and what Keras is compiled with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.compression.backends.tensorflow._framework import keras, tf
from tasks.compression.objective import Objective
from tasks.compression.objectives import Aim, Objectives
from tasks.compression.samples import Samples

__all__ = ["JointLoss", "flat_model", "in_order", "loss_of", "metrics_of", "rename_outputs"]


def loss_of(aim: Aim, *, everything: bool = False) -> Any:
    """The loss of an aim, the mean over the samples: Keras' own, or of several outputs a JointLoss. With
    `everything` outputs without labels count too, towards the original's answers."""
    return _one_loss(aim) if isinstance(aim, Objective) else JointLoss(aim, everything=everything)


def _one_loss(objective: Objective) -> Any:
    losses = keras.losses
    if objective.loss == "mean_squared_error":
        return losses.MeanSquaredError()
    if objective.loss == "mean_absolute_error":
        return losses.MeanAbsoluteError()
    if objective.loss == "binary_crossentropy":
        return losses.BinaryCrossentropy(from_logits=objective.from_logits)
    return losses.SparseCategoricalCrossentropy(from_logits=objective.from_logits)


class JointLoss:
    """The sum of the losses of the outputs that have labels, or of all where none has or `everything` is
    asked for, each times its weight. Labels and outputs are in the model's order."""

    def __init__(self, aim: Objectives, *, everything: bool = False) -> None:
        known = aim.by_output if everything or not aim.labelled else aim.labelled
        self._losses = {name: _one_loss(part) for name, part in aim.by_output.items() if name in known}
        self._aim = aim

    def __call__(self, labels: Any, outputs: Any) -> Any:
        values = self.each(labels, outputs)
        return tf.add_n([self._aim.weights[name] * value for name, value in values.items()])

    def each(self, labels: Any, outputs: Any) -> dict[str, Any]:
        """The loss of every output that has one, without its weight."""
        pairs = zip(self._aim.by_output, in_order(labels), in_order(outputs), strict=True)
        return {
            name: self._losses[name](truth, given) for name, truth, given in pairs if name in self._losses
        }

    def compiled(self) -> dict[str, Any]:
        """As the arguments of Keras' compile: None for an output that is trained by nothing."""
        names = tuple(self._aim.by_output)
        return {
            "loss": [self._losses.get(name) for name in names],
            "loss_weights": [self._aim.weights[name] for name in names],
        }


def in_order(tensors: Any) -> list[Any]:
    """The arrays of Samples, or whatever a Keras model answered with, in the order of its outputs."""
    return list(tensors.arrays) if isinstance(tensors, Samples) else tf.nest.flatten(tensors)


def metrics_of(aim: Aim) -> list[Any]:
    """For Keras' compile: a list for the only output, or a list for each."""
    if isinstance(aim, Objective):
        return [_metric(name, aim) for name in aim.metrics]
    return [metrics_of(part) for part in aim.by_output.values()]


def _metric(name: str, objective: Objective) -> Any:
    metrics, called = keras.metrics, objective.called(name)
    if name == "mean_squared_error":
        return metrics.MeanSquaredError(name=called)
    if name == "mean_absolute_error":
        return metrics.MeanAbsoluteError(name=called)
    if objective.task == "classification":
        return metrics.SparseCategoricalAccuracy(name=called)
    return metrics.BinaryAccuracy(name=called, threshold=0.0 if objective.from_logits else 0.5)


def flat_model(model: Any, names: Sequence[str]) -> Any:
    """The same layers under a model that takes and gives plain lists, whose outputs go by `names`: wrappers
    rename layers, and models made with mappings answer with them."""
    flat = keras.Model(model.inputs, model.outputs)
    rename_outputs(flat, names)
    return flat


def rename_outputs(model: Any, names: Sequence[str]) -> None:
    """The outputs of a model in training go by the names they have in the model it trains."""
    if len(names) > 1:
        model.output_names = list(names)
