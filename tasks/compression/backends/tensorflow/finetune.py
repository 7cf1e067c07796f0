"""Fine-tuning, with the pruning that waits for it and the zeros that are there already."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np

from featherweight.report import EpochReport
from featherweight.spec import Finetune, PolynomialDecay, PruningSchedule
from tasks.compression.backends.tensorflow._framework import keras, sparsity, without_autograph
from tasks.compression.backends.tensorflow.batches import training_batches
from tasks.compression.backends.tensorflow.masks import (
    mask_plan,
    note_outcome,
    total_sparsity,
    unwrapped,
    warn_of_late_ends,
    wrapped,
)
from tasks.compression.backends.tensorflow.network import Network
from tasks.compression.backends.tensorflow.predict import predict
from tasks.compression.backends.tensorflow.summaries import Summaries
from tasks.compression.backends.tensorflow.training import prepare_training
from tasks.compression.context import Context
from tasks.compression.errors import CompressionError
from tasks.compression.evaluate import metric_values
from tasks.compression.objective import Objective
from tasks.compression.resolve import optimiser_steps

__all__ = ["finetune", "group_size"]

# Tracing a loop of steps takes about a second more than tracing one step, and saves about 3 ms a step.
GROUP_FROM_STEPS = 400
MAX_GROUP = 32

FEWEST_UPDATES = 4  # with fewer mask updates on its way, a decay is a jump


@without_autograph  # type: ignore[untyped-decorator]
def finetune(network: Network, step: Finetune, context: Context) -> Network:
    """Train on the training split, carrying out `network.pending`; returns the model stripped.

    CompressionError training_diverged when the loss is no longer finite.
    """
    data = context.training_data
    objective = data.objectives[context.index]
    plan = mask_plan(network, seed=context.seed)
    steps = optimiser_steps(len(data.train), step)
    warn_of_late_ends(plan, steps, context)
    for path, share in plan.kept.items():
        if path not in network.pruned:
            context.warn("existing_zeros_kept", layer=path, share=share)
    for pending in network.pending:
        _remark_on_frequency(pending.step.schedule, context)
    model = wrapped(network.model, plan)
    summarised = any(item.step.summaries for item in network.pending)
    with Summaries(context.scratch) if summarised else nullcontext() as summaries:
        _fit(model, step, objective, context, [summaries] if summaries else [])
        tensorboard = summaries.archive() if summaries else network.tensorboard
    model = unwrapped(model, plan)
    note_outcome(plan, steps, context)
    pruned = {**network.pruned, **plan.targets}
    return replace(network, model=model, pending=(), pruned=pruned, tensorboard=tensorboard)


def group_size(steps: int, steps_per_epoch: int) -> int:
    """How many steps run between two callbacks: 1 for short trainings, where tracing would cost more."""
    return 1 if steps < GROUP_FROM_STEPS else max(1, min(MAX_GROUP, steps_per_epoch // 4))


def _fit(model: Any, step: Finetune, objective: Objective, context: Context, extra: Sequence[Any]) -> None:
    data = context.training_data
    per_epoch = math.ceil(len(data.train) / step.batch_size)
    group = group_size(per_epoch * step.epochs, per_epoch)
    seed = context.seed if step.seed is None else step.seed
    batches = training_batches(
        data.x, objective.labels, data.train, batch_size=step.batch_size, epochs=step.epochs, seed=seed
    )
    loss = _loss(objective)
    # Only passed where it is more than 1: Keras traces a loop for it all the same.
    grouping = {"steps_per_execution": group} if group > 1 else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras.utils.set_random_seed(seed)
        model.compile(
            _optimizer(step), loss, [_metric(name, objective) for name in objective.metrics], **grouping
        )
        first = data.train[:1]
        prepare_training(model, data.x[first], objective.labels[first])
        watch = _Watch(step, objective, loss, per_epoch, context)
        callbacks = [sparsity.UpdatePruningStep(), watch, *extra]
        model.fit(batches, epochs=step.epochs, steps_per_epoch=per_epoch, verbose=0, callbacks=callbacks)
    if not all(np.isfinite(weight.numpy()).all() for weight in model.trainable_weights):
        raise _diverged(step, step.epochs, per_epoch * step.epochs)  # the very last step did it
    context.record.details.update(
        optimiser_steps=per_epoch * step.epochs, steps_per_execution=group, loss=objective.loss
    )


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Says how far training is, measures the validation split at the end of each epoch, and stops a training
    whose loss is no number any more."""

    def __init__(
        self, step: Finetune, objective: Objective, loss: Any, per_epoch: int, context: Context
    ) -> None:
        super().__init__()
        self._step = step
        self._objective = objective
        self._loss = loss
        self._per_epoch = per_epoch
        self._context = context
        self._epoch = 0
        self._began = time.perf_counter()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._epoch = epoch
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        metrics = _numbers(logs)
        done = self._epoch * self._per_epoch + batch + 1
        if not math.isfinite(metrics.get("loss", 0.0)):
            raise _diverged(self._step, self._epoch + 1, done)
        self._context.progress.advance(done, self._per_epoch * self._step.epochs, metrics)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        metrics = _numbers(logs) | self._validation()
        self._context.record.epochs.append(
            EpochReport(
                epoch=epoch + 1,
                seconds=round(time.perf_counter() - self._began, 4),
                metrics=metrics,
                sparsity=total_sparsity(self.model),
            )
        )
        text = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        self._context.progress.log(f"epoch {epoch + 1} of {self._step.epochs}: {text}")

    def _validation(self) -> dict[str, float]:
        """Computed operation by operation: tracing an evaluation function takes longer for most sizes."""
        data = self._context.training_data
        if not len(data.validation) or not self._step.validation_split:
            return {}
        labels = self._objective.labels[data.validation]
        outputs = predict(self.model, data.x[data.validation])
        values = {"val_loss": float(self._loss(labels, outputs))}
        for name in self._objective.metrics:
            values[f"val_{name}"] = float(metric_values(name, self._objective, outputs, labels).mean())
        return {name: value for name, value in values.items() if math.isfinite(value)}


def _remark_on_frequency(schedule: PruningSchedule, context: Context) -> None:
    resolved = schedule.model_dump()
    steps, frequency = resolved["end_step"] - resolved["begin_step"], resolved["frequency"]
    if isinstance(schedule, PolynomialDecay) and frequency * FEWEST_UPDATES > steps:
        context.warn("fewer_steps_than_frequency", steps=steps, frequency=frequency)


def _numbers(logs: Mapping[str, float] | None) -> dict[str, float]:
    return {name: float(value) for name, value in (logs or {}).items()}


def _diverged(step: Finetune, epoch: int, done: int) -> CompressionError:
    return CompressionError(
        "training_diverged",
        f"the loss became NaN or infinite in epoch {epoch}, by step {done}, "
        f"at learning rate {step.learning_rate:g}",
        hint=f"try a learning rate of {step.learning_rate / 10:g}, and check the scale of the samples",
    )


def _optimizer(step: Finetune) -> Any:
    """Those of Keras' legacy optimisers that have a fused kernel: on CPUs they step faster."""
    legacy, current, rate = keras.optimizers.legacy, keras.optimizers, step.learning_rate
    makers = {
        "adam": lambda: legacy.Adam(rate),
        "adamw": lambda: current.AdamW(rate),
        "nadam": lambda: current.Nadam(rate),
        "rmsprop": lambda: legacy.RMSprop(rate),
        "sgd": lambda: legacy.SGD(rate),
        "sgd_momentum": lambda: legacy.SGD(rate, momentum=0.9),
    }
    return makers[step.optimizer]()


def _loss(objective: Objective) -> Any:
    losses = keras.losses
    if objective.loss == "mean_squared_error":
        return losses.MeanSquaredError()
    if objective.loss == "mean_absolute_error":
        return losses.MeanAbsoluteError()
    if objective.loss == "binary_crossentropy":
        return losses.BinaryCrossentropy(from_logits=objective.from_logits)
    return losses.SparseCategoricalCrossentropy(from_logits=objective.from_logits)


def _metric(name: str, objective: Objective) -> Any:
    metrics = keras.metrics
    if name == "mean_squared_error":
        return metrics.MeanSquaredError(name=name)
    if name == "mean_absolute_error":
        return metrics.MeanAbsoluteError(name=name)
    if objective.task == "classification":
        return metrics.SparseCategoricalAccuracy(name=name)
    return metrics.BinaryAccuracy(name=name, threshold=0.0 if objective.from_logits else 0.5)
