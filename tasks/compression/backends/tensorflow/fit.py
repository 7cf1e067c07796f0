"""One training: batches, learning rate, what is watched at the end of each epoch, and which weights stay."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from featherweight.spec import Distill, Finetune
from tasks.compression.backends.tensorflow._framework import keras
from tasks.compression.backends.tensorflow.augment import image_augmenter
from tasks.compression.backends.tensorflow.batches import training_batches
from tasks.compression.backends.tensorflow.checkpoints import Checkpointing
from tasks.compression.backends.tensorflow.joint import JointLoss, flat_model, loss_of, metrics_of
from tasks.compression.backends.tensorflow.predict import predict
from tasks.compression.backends.tensorflow.randomness import own_generators
from tasks.compression.backends.tensorflow.rates import learning_rate
from tasks.compression.backends.tensorflow.teaching import Teaching
from tasks.compression.backends.tensorflow.training import prepare_training
from tasks.compression.backends.tensorflow.training_parts import TrainingPart
from tasks.compression.context import Context
from tasks.compression.errors import CompressionError
from tasks.compression.objective import Objective
from tasks.compression.objectives import Objectives, each_output
from tasks.compression.options import label_weights
from tasks.compression.resolve import resolved_aim
from tasks.compression.samples import Array, Tensors, structure
from tasks.compression.teaching import known_answers
from tasks.compression.training_parts import sparsity_of
from tasks.compression.watching import Watch, measured_on_validation, remark_on_options

__all__ = ["fit", "group_size", "loss_of"]

# Tracing a loop of steps takes about a second more than tracing one step, and saves about 3 ms a step.
GROUP_FROM_STEPS = 400
MAX_GROUP = 32

Step = Finetune | Distill


def group_size(steps: int, steps_per_epoch: int) -> int:
    """How many steps run between two callbacks: 1 for short trainings, where tracing would cost more."""
    return 1 if steps < GROUP_FROM_STEPS else max(1, min(MAX_GROUP, steps_per_epoch // 4))


def fit(
    model: Any,
    step: Step,
    context: Context,
    parts: Sequence[TrainingPart],
    teaching: Teaching | None = None,
    extra: Sequence[Any] = (),
    others: Sequence[Any] = (),
) -> int:
    """Train `model`, wrapped for what it is to learn, and return the optimiser steps that were taken.

    `parts` take part in every step; epochs that end before all of them are settled are neither kept as the
    best nor counted by early stopping. With `teaching` the labels are not the only aim, or none at all.
    `extra` are more Keras callbacks; those with `state` and `resume` are asked for what they remember.
    `others` are variables that training changes beside those of `model` and the optimiser.

    The training goes on from the newest of `context.checkpoints`, and ends with the weights it would have
    had without the interruption.

    CompressionError training_diverged when the loss is no longer finite; the model then has the weights of
    the last epoch in which it was, and the error's `kept` is that model if such an epoch has ended.
    Stopped, with a checkpoint kept, where `context.stop` asks for it.
    """
    data, objective = context.training_data, context.training_data.objectives[context.index]
    per_epoch = math.ceil(len(data.train) / step.batch_size)
    group = group_size(per_epoch * step.epochs, per_epoch)
    seed = context.seed if step.seed is None else step.seed
    rate = learning_rate(step, per_epoch)
    loss = loss_of(objective)
    answers = known_answers(teaching, step, context)
    trainee = model
    if teaching is not None:
        trainee = teaching.student(model, loss, weighted=step.class_weights is not None)
    elif isinstance(objective, Objectives) or isinstance(model.output, Mapping):
        trainee = flat_model(model, [name for name, _, _ in each_output(objective)])
    # Only passed where it is more than 1: Keras traces a loop for it all the same.
    grouping = {"steps_per_execution": group} if group > 1 else {}
    with (
        warnings.catch_warnings(),
        _frozen_norms(model, step, context),
        own_generators(trainee, seed) as generators,
        context.stop.held(),
    ):
        warnings.simplefilter("ignore")
        keras.utils.set_random_seed(seed)
        aims = loss.compiled() if isinstance(loss, JointLoss) else {"loss": loss}
        trainee.compile(_optimizer(step, rate), metrics=metrics_of(objective), **aims, **grouping)
        first = data.train[:1]
        prepare_training(trainee, structure(data.x[first]), structure(objective.labels[first]), parts)
        settled = max((part.settled for part in parts), default=0)
        value = _validation_loss(loss, teaching, answers, context)
        watch = Watch(
            step,
            context,
            _Weights(trainee),
            per_epoch=per_epoch,
            settled=settled,
            validation=lambda: measured_on_validation(step, context, partial(predict, trainee), value),
            sparsity=lambda: sparsity_of(parts),
        )
        remark_on_options(step, context, per_epoch=per_epoch, settled=settled)
        memories = [watch, *(callback for callback in extra if hasattr(callback, "resume"))]
        checkpointing = Checkpointing(
            context, trainee, step.epochs, per_epoch, others=[*generators, *others], memories=memories
        )
        start = checkpointing.resume()
        batches = training_batches(
            structure(data.x),
            _targets(step, context, answers if teaching is not None and teaching.once else None),
            data.train,
            batch_size=step.batch_size,
            epochs=step.epochs,
            seed=seed,
            augment=None if step.augmentation is None else image_augmenter(step.augmentation, seed, data.x),
            reconstruct=isinstance(objective, Objective) and objective.labels_from == "inputs",
            start=start,
        )
        ours = [callback for part in parts for callback in part.callbacks]
        callbacks = [*ours, _Watch(watch), *extra, checkpointing]
        try:
            trainee.fit(
                batches, epochs=step.epochs, steps_per_epoch=per_epoch, verbose=0, callbacks=callbacks
            )
            watch.check_finite()  # the very last step may have done it
        except CompressionError as error:
            watch.restore_good()
            error.kept = watch.kept(model)
            raise
    watch.restore_best()
    taken = watch.epochs * per_epoch
    told = resolved_aim(step, objective)["loss"]
    context.record.details.update(optimiser_steps=taken, steps_per_execution=group, loss=told)
    return taken


def _targets(step: Step, context: Context, answers: Tensors | None) -> tuple[Any, ...]:
    objective = context.training_data.objectives[context.index]
    targets = [structure(objective.labels)]
    if answers is not None:
        targets.append(structure(answers))
    weights = label_weights(step, objective, context.training_data.train)
    if weights is not None:
        targets.append(weights)
    return tuple(targets)


def _validation_loss(
    loss: Any, teaching: Teaching | None, answers: Tensors | None, context: Context
) -> Callable[[Tensors, Tensors], float]:
    def value(labels: Tensors, outputs: Tensors) -> float:
        if teaching is None or answers is None:
            return float(loss(labels, outputs))
        return float(teaching.loss(loss, labels, answers[context.training_data.validation], outputs))

    return value


@contextmanager
def _frozen_norms(model: Any, step: Step, context: Context) -> Iterator[None]:
    """With `freeze_batch_norm`, batch normalisation computes as in inference and does not change."""
    layers = [layer for layer in model._flatten_layers() if _is_norm(layer) and layer.trainable]
    if not step.freeze_batch_norm:
        yield
        return
    if not layers:
        context.warn("no_batch_norm")
    for layer in layers:
        layer.trainable = False
    try:
        yield
    finally:
        for layer in layers:
            layer.trainable = True


def _is_norm(layer: Any) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization)


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Tells a Watch what Keras tells its callbacks."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._watch.epoch_begins()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        self._watch.step_ended(batch + 1, _numbers(logs))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._watch.epoch_ended(_numbers(logs))
        self.model.stop_training = self.model.stop_training or self._watch.over


@dataclass(frozen=True)
class _Weights:
    """Of a Keras model; masks are weights too."""

    model: Any

    def read(self) -> list[Array]:
        weights: list[Array] = self.model.get_weights()
        return weights

    def write(self, arrays: Sequence[Array]) -> None:
        self.model.set_weights(arrays)

    def finite(self, arrays: Sequence[Array]) -> bool:
        return all(bool(np.isfinite(array).all()) for array in arrays if array.dtype.kind == "f")


def _numbers(logs: Mapping[str, float] | None) -> dict[str, float]:
    return {name: float(value) for name, value in (logs or {}).items()}


def _optimizer(step: Step, rate: Any) -> Any:
    """Those of Keras' legacy optimisers that have a fused kernel: on CPUs they step faster."""
    legacy, current = keras.optimizers.legacy, keras.optimizers
    clip = {} if step.gradient_clip_norm is None else {"global_clipnorm": step.gradient_clip_norm}
    makers = {
        "adam": lambda: legacy.Adam(rate, **clip),
        "adamw": lambda: current.AdamW(rate, **clip),
        "nadam": lambda: current.Nadam(rate, **clip),
        "rmsprop": lambda: legacy.RMSprop(rate, **clip),
        "sgd": lambda: legacy.SGD(rate, **clip),
        "sgd_momentum": lambda: legacy.SGD(rate, momentum=0.9, **clip),
    }
    return makers[step.optimizer]()
