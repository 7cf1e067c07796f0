"""Distillation: what a student is to learn from its teacher (Hinton, Vinyals & Dean 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.compression.backends.tensorflow._framework import keras, tf
from tasks.compression.backends.tensorflow.joint import in_order, rename_outputs
from tasks.compression.backends.tensorflow.predict import predict
from tasks.compression.objective import Objective
from tasks.compression.objectives import Objectives, each_output
from tasks.compression.samples import Tensors
from tasks.compression.teaching import CommonTeaching, unmatched

__all__ = ["Student", "Teaching", "check_features", "divergence"]

_WRAPPED = ("", "prune_low_magnitude_", "quant_")  # how TFMOT's wrappers name a layer
_LEAST = 1e-7  # below it a probability is taken for it, as Keras' losses do


def divergence(objective: Objective, temperature: float, answers: Any, outputs: Any) -> Any:
    """How far the student's `outputs` are from the teacher's `answers`, at every place of every sample.

    Classes: the Kullback-Leibler divergence of the softmaxes at `temperature` T, times T² so that its
    gradients keep their size (Hinton et al. 2015, section 2). Yes and no: the same of the Bernoulli
    distributions, averaged over the outputs. Values: the mean squared error, without temperature.
    """
    if objective.task == "regression":
        return tf.reduce_mean(tf.square(outputs - answers), axis=-1)
    theirs, ours = _logits(objective, answers) / temperature, _logits(objective, outputs) / temperature
    if objective.task == "classification":
        gap = tf.nn.log_softmax(theirs) - tf.nn.log_softmax(ours)
        apart = tf.reduce_sum(tf.nn.softmax(theirs) * gap, axis=-1)
    else:
        yes = tf.math.sigmoid(theirs)
        no_gap = tf.math.log_sigmoid(-theirs) - tf.math.log_sigmoid(-ours)
        yes_gap = tf.math.log_sigmoid(theirs) - tf.math.log_sigmoid(ours)
        apart = tf.reduce_mean(yes * yes_gap + (1.0 - yes) * no_gap, axis=-1)
    return temperature**2 * apart


def _logits(objective: Objective, outputs: Any) -> Any:
    """Of probabilities: their logarithms, which a softmax turns into them again, or their log odds."""
    if objective.from_logits:
        return outputs
    shares = tf.clip_by_value(outputs, _LEAST, 1.0 - _LEAST)
    if objective.task == "classification":
        return tf.math.log(shares)
    return tf.math.log(shares) - tf.math.log1p(-shares)


@dataclass(frozen=True)
class Teaching(CommonTeaching):
    """The `teacher` is a Keras model."""

    def asked(self, x: Tensors) -> Tensors:
        return predict(self.teacher, x)

    def loss(self, label_loss: Any, labels: Any, answers: Any, outputs: Any, weights: Any = None) -> Any:
        """The mean over samples; `weights` are those of the samples. Of several outputs the weighted sum,
        where those without labels have the divergence alone."""
        if isinstance(self.objective, Objectives):
            return self._joint_loss(self.objective, label_loss, labels, answers, outputs)
        apart = divergence(self.objective, self.step.temperature, answers, outputs)
        towards = tf.reduce_mean(apart if weights is None else apart * weights)
        if self.step.weight == 1:
            return towards
        told = label_loss(labels, outputs, sample_weight=weights)
        return self.step.weight * towards + (1.0 - self.step.weight) * told

    def _joint_loss(self, aim: Objectives, label_loss: Any, labels: Any, answers: Any, outputs: Any) -> Any:
        told = label_loss.each(labels, outputs) if self.step.weight < 1 else {}
        total = 0.0
        pairs = zip(aim.by_output.items(), in_order(answers), in_order(outputs), strict=True)
        for (name, part), theirs, ours in pairs:
            value = tf.reduce_mean(divergence(part, self.step.temperature, theirs, ours))
            if name in told:
                value = self.step.weight * value + (1.0 - self.step.weight) * told[name]
            total += aim.weights[name] * value
        return total

    def student(self, model: Any, label_loss: Any, *, weighted: bool) -> Student:
        """A model to train in the place of `model`, with the same layers."""
        taught = _tapped(model, self.features, "student")
        shown = _tapped(self.teacher, self.features, "teacher")
        student = Student(model, _Lesson(self, taught, shown, label_loss, weighted))
        rename_outputs(student, [name for name, _, _ in each_output(self.objective)])
        return student


@dataclass(frozen=True, eq=False)
class _Lesson:
    """Keras would take the models for layers of the student if it held them itself."""

    teaching: Teaching
    taught: Any
    shown: Any
    label_loss: Any
    weighted: bool


class Student(keras.Model):  # type: ignore[misc]
    """Trained on batches of samples and labels, then the teacher's answers where they are known before,
    then the samples' weights where there are any."""

    def __init__(self, model: Any, lesson: _Lesson) -> None:
        super().__init__(inputs=model.inputs, outputs=model.outputs)
        self._lesson = lesson
        self._mean_loss = keras.metrics.Mean(name="loss")

    @property
    def metrics(self) -> list[Any]:
        compiled = getattr(self, "compiled_metrics", None)
        return [self._mean_loss, *(compiled.metrics if compiled is not None else [])]

    def train_step(self, batch: tuple[Any, ...]) -> dict[str, Any]:
        lesson, teaching = self._lesson, self._lesson.teaching
        x, labels, *rest = batch
        weights = rest.pop() if lesson.weighted else None
        count = len(self.outputs)
        shown = tf.nest.flatten(rest) if rest else _answered(lesson.shown, x, training=False)
        with tf.GradientTape() as tape:
            answered = _answered(lesson.taught, x, training=True)
            outputs = answered[0] if count == 1 else answered[:count]
            answers = shown[0] if count == 1 else shown[:count]
            loss = teaching.loss(lesson.label_loss, labels, answers, outputs, weights)
            for ours, theirs in zip(answered[count:], shown[count:], strict=True):
                loss += teaching.step.feature_weight * tf.reduce_mean(tf.square(ours - theirs))
            if self.losses:
                loss += tf.add_n(self.losses)
        self.optimizer.minimize(loss, self.trainable_variables, tape=tape)
        self._mean_loss.update_state(loss, sample_weight=tf.shape(tf.nest.flatten(x)[0])[0])
        self.compiled_metrics.update_state(labels, outputs)
        return dict(self.get_metrics_result())


def _tapped(model: Any, features: Sequence[str], role: str) -> Any:
    """A model that answers with its outputs, then those of the layers `features`."""
    layers = {layer.name: layer for layer in model.layers}
    tensors = list(model.outputs)
    for name in features:
        layer = next((layers[prefix + name] for prefix in _WRAPPED if prefix + name in layers), None)
        if layer is None:
            raise unmatched(name, f"an earlier step took the layer out of the {role}")
        tensors.append(_output_in(model, layer))
    return keras.Model(model.inputs, tensors)


def _output_in(model: Any, layer: Any) -> Any:
    """What `layer` puts out where `model` first calls it; it may stand in the graphs of other models too."""
    nodes = {id(node) for level in model._nodes_by_depth.values() for node in level}
    return next(node.outputs for node in layer._inbound_nodes if id(node) in nodes)


def _answered(tapped: Any, x: Any, *, training: bool) -> list[Any]:
    answers = tapped(x, training=training)  # Keras hands a single output over without its list
    return list(answers) if isinstance(answers, list | tuple) else [answers]


def check_features(teacher: Any, model: Any, features: Sequence[str], pointer: str) -> None:
    """CompressionError layer_not_supported where an earlier step changed a feature's shape."""
    count = len(model.outputs)
    ours, theirs = _tapped(model, features, "student").outputs, _tapped(teacher, features, "teacher").outputs
    for name, left, right in zip(features, ours[count:], theirs[count:], strict=True):
        if left.shape.as_list() != right.shape.as_list():
            raise unmatched(name, "an earlier step changed the shape of its output", pointer)
