"""One training: batches, learning rate, what is watched at the end of each epoch, and which weights stay."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from featherweight.report import EpochReport
from featherweight.spec import Distill, Finetune, StepRate
from tasks.compression.backends.tensorflow._framework import keras
from tasks.compression.backends.tensorflow.augment import image_augmenter
from tasks.compression.backends.tensorflow.batches import training_batches
from tasks.compression.backends.tensorflow.checkpoints import Checkpointing, State
from tasks.compression.backends.tensorflow.joint import JointLoss, flat_model, loss_of, metrics_of
from tasks.compression.backends.tensorflow.predict import predict
from tasks.compression.backends.tensorflow.randomness import own_generators
from tasks.compression.backends.tensorflow.rates import Rate, learning_rate, rate_at
from tasks.compression.backends.tensorflow.teaching import Teaching
from tasks.compression.backends.tensorflow.training import prepare_training
from tasks.compression.backends.tensorflow.training_parts import TrainingPart
from tasks.compression.context import Context
from tasks.compression.errors import CompressionError, Kept
from tasks.compression.evaluate import metric_values
from tasks.compression.objective import Objective
from tasks.compression.objectives import Objectives, each_output, main_metric, main_output
from tasks.compression.options import class_weights
from tasks.compression.resolve import resolved_aim
from tasks.compression.samples import Array, Tensors, structure

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
    answers = _answers(teaching, step, context)
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
        watch = _Watch(
            step, context, rate, per_epoch, parts, _validation_loss(loss, teaching, answers, context)
        )
        watch.begin(trainee)
        _remark_on(step, watch, context)
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
        callbacks = [*ours, watch, *extra, checkpointing]
        try:
            trainee.fit(
                batches, epochs=step.epochs, steps_per_epoch=per_epoch, verbose=0, callbacks=callbacks
            )
            watch.check_finite(trainee)  # the very last step may have done it
        except CompressionError as error:
            watch.restore_good(trainee)
            error.kept = watch.kept(model)
            raise
    watch.restore_best(trainee)
    taken = watch.epochs * per_epoch
    told = resolved_aim(step, objective)["loss"]
    context.record.details.update(optimiser_steps=taken, steps_per_execution=group, loss=told)
    return taken


def _answers(teaching: Teaching | None, step: Step, context: Context) -> Tensors | None:
    """The teacher's, of the samples for which they are needed and never change."""
    if teaching is None:
        return None
    data = context.training_data
    validation = data.validation if step.validation_split else data.validation[:0]
    indices = np.union1d(data.train, validation) if teaching.once else validation
    return teaching.answers(data.x, indices) if len(indices) else None


def _targets(step: Step, context: Context, answers: Tensors | None) -> tuple[Any, ...]:
    objective = context.training_data.objectives[context.index]
    targets = [structure(objective.labels)]
    if answers is not None:
        targets.append(structure(answers))
    if step.class_weights is not None and isinstance(objective, Objective):
        labels = objective.labels.astype(np.int64)
        places = labels[..., 0] if objective.task == "binary" else labels
        targets.append(class_weights(step, objective, context.training_data.train)[places])
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


_REMEMBERED = ("epochs", "_good_epoch", "_best_value", "_best_epoch", "_reference", "_waited")


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Says how far training is, measures the validation split at the end of each epoch, stops a training
    that is no use any more, and remembers the weights worth coming back to."""

    def __init__(
        self,
        step: Step,
        context: Context,
        rate: float | Rate,
        per_epoch: int,
        parts: Sequence[TrainingPart],
        loss: Callable[[Tensors, Tensors], float],
    ) -> None:
        super().__init__()
        self._step = step
        self._objective = context.training_data.objectives[context.index]
        self._loss = loss
        self._rate = rate
        self._per_epoch = per_epoch
        self._parts = parts
        self._settled = max((part.settled for part in parts), default=0)
        self._context = context
        self._began = time.perf_counter()
        self._good: list[Array] = []
        self._good_epoch = 0
        self._spent_s = 0.0  # by earlier attempts, in the epoch that they broke off
        self._best: list[Array] | None = None
        self._best_value = self._reference = math.inf
        self._best_epoch = 0
        self._waited = 0
        self.epochs = 0  # that have ended

    def begin(self, model: Any) -> None:
        self._good = model.get_weights()

    def choices(self) -> int:
        """How many epochs end with pruning at its final sparsity."""
        every = range(1, self._step.epochs + 1)
        return sum(epoch * self._per_epoch >= self._settled for epoch in every)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._began = time.perf_counter() - self._spent_s
        self._spent_s = 0.0

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        metrics = _numbers(logs)
        done = self.epochs * self._per_epoch + batch + 1
        if not math.isfinite(metrics.get("loss", 0.0)):
            raise self._diverged(self.epochs + 1, done)
        self._context.progress.advance(done, self._per_epoch * self._step.epochs, metrics)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self.epochs = epoch + 1
        metrics = _numbers(logs) | self._validation()
        metrics["learning_rate"] = rate_at(self._rate, self.epochs * self._per_epoch - 1)
        self._context.record.epochs.append(
            EpochReport(
                epoch=epoch + 1,
                seconds=round(time.perf_counter() - self._began, 4),
                metrics=metrics,
                sparsity=self._sparsity(),
            )
        )
        text = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        self._context.progress.log(f"epoch {epoch + 1} of {self._step.epochs}: {text}")
        weights = self.model.get_weights()
        if _finite(weights):
            self._good, self._good_epoch = weights, self.epochs
            self._judge(metrics, weights)
        self._began = time.perf_counter()

    def check_finite(self, model: Any) -> None:
        if not _finite(model.get_weights()):
            raise self._diverged(self.epochs, self.epochs * self._per_epoch)

    def restore_good(self, model: Any) -> None:
        model.set_weights(self._good)

    def kept(self, model: Any) -> Kept | None:
        """After `restore_good`; None where no epoch had ended with finite weights."""
        if not self._good_epoch:
            return None
        return Kept(model, f"the model as it was at the end of epoch {self._good_epoch}")

    def state(self) -> State:
        """What is remembered from epoch to epoch, the reported ones among it."""
        told = {name: getattr(self, name) for name in _REMEMBERED}
        told |= {
            "reports": [report.model_dump() for report in self._context.record.epochs],
            "stopped_after": self._context.record.details.get("stopped_after_epoch"),
            "spent_s": time.perf_counter() - self._began,
            "good": len(self._good),
        }
        return State(told, [*self._good, *(self._best or [])])

    def resume(self, state: State) -> None:
        told, arrays = state.told, list(state.arrays)
        for name in _REMEMBERED:
            setattr(self, name, told[name])
        self._good, best = arrays[: told["good"]], arrays[told["good"] :]
        self._best = best or None
        self._spent_s = told["spent_s"]
        self._context.record.epochs[:] = [EpochReport.model_validate(report) for report in told["reports"]]
        if told["stopped_after"] is not None:
            self._context.record.details.update(stopped_after_epoch=told["stopped_after"])

    def restore_best(self, model: Any) -> None:
        """Masks are weights too: what comes back was pruned as the epoch's own masks say."""
        if self._step.keep_best and self._best is not None:
            model.set_weights(self._best)
            self._context.record.details.update(best_epoch=self._best_epoch)

    def _judge(self, metrics: Mapping[str, float], weights: list[Array]) -> None:
        """Compare the epoch with the best before it, in the monitored value with the sign that makes less
        better."""
        value = self._monitored(metrics)
        if self.epochs * self._per_epoch < self._settled or value is None:
            return
        if value < self._best_value:
            self._best_value, self._best_epoch = value, self.epochs
            self._best = weights if self._step.keep_best else None
        stopping = self._step.early_stopping
        if stopping is None:
            return
        better = value < self._reference - stopping.min_delta
        self._waited = 0 if better else self._waited + 1
        self._reference = value if better else self._reference
        if self._waited >= stopping.patience and self.epochs < self._step.epochs:
            self.model.stop_training = True
            self._context.record.details.update(stopped_after_epoch=self.epochs)
            self._context.progress.log(f"stopped early after epoch {self.epochs}")

    def _monitored(self, metrics: Mapping[str, float]) -> float | None:
        stopping = self._step.early_stopping
        if stopping is None or stopping.monitor == "val_loss":
            return metrics.get("val_loss")
        value = metrics.get(f"val_{main_metric(self._objective)}")
        higher_is_better = main_output(self._objective).metrics[0].endswith("accuracy")
        return -value if value is not None and higher_is_better else value

    def _validation(self) -> dict[str, float]:
        """Computed operation by operation: tracing an evaluation function takes longer for most sizes."""
        data = self._context.training_data
        if not len(data.validation) or not self._step.validation_split:
            return {}
        labels = self._objective.labels[data.validation]
        outputs = predict(self.model, data.x[data.validation])
        values = {"val_loss": self._loss(labels, outputs)}
        for output, part, (given, truth) in each_output(self._objective, outputs, labels):
            prefix = f"val_{output}_" if output else "val_"
            for name in part.metrics:
                value = float(metric_values(name, part, given, truth).mean())
                values[f"{prefix}{part.called(name)}"] = value
        return {name: value for name, value in values.items() if math.isfinite(value)}

    def _sparsity(self) -> float | None:
        shares = [share for part in self._parts if (share := part.sparsity()) is not None]
        return shares[0] if shares else None

    def _diverged(self, epoch: int, done: int) -> CompressionError:
        rate = rate_at(self._rate, max(0, done - 1))
        none = "" if self._good_epoch else "; no epoch had ended before: there is no checkpoint to keep"
        return CompressionError(
            "training_diverged",
            f"the loss became NaN or infinite in epoch {epoch}, by step {done}, at learning rate {rate:g}"
            f"{none}",
            hint=f"try a learning rate of {self._step.learning_rate / 10:g}, or gradient_clip_norm, "
            "and check the scale of the samples",
        )


def _finite(weights: list[Array]) -> bool:
    return all(bool(np.isfinite(weight).all()) for weight in weights if weight.dtype.kind == "f")


def _numbers(logs: Mapping[str, float] | None) -> dict[str, float]:
    return {name: float(value) for name, value in (logs or {}).items()}


def _remark_on(step: Step, watch: _Watch, context: Context) -> None:
    """Options that cannot do what they are there for."""
    per_epoch, schedule = watch._per_epoch, step.learning_rate_schedule
    total = per_epoch * step.epochs
    chosen = [name for name in ("keep_best", "early_stopping") if getattr(step, name)]
    if step.epochs > 1 and watch.choices() < 2:
        for name in chosen:
            count = watch.choices()
            context.warn("best_among_few", option=name, count=count, epochs=step.epochs, step=watch._settled)
    if schedule.warmup_steps >= total:
        reached = step.learning_rate * total / schedule.warmup_steps
        context.warn("warm_up_not_finished", warmup=schedule.warmup_steps, steps=total, reached=reached)
    if isinstance(schedule, StepRate) and schedule.every_epochs >= step.epochs:
        context.warn("rate_never_falls", every=schedule.every_epochs, epochs=step.epochs)
    if step.augmentation is not None and not any(step.augmentation.model_dump().values()):
        context.warn("augmentation_empty")


def _optimizer(step: Step, rate: float | Rate) -> Any:
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
