"""One training: batches, learning rate, what is watched at the end of each epoch, and which weights stay."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial

from featherweight.spec import Distill, Finetune
from tasks.compression.backends.torch._framework import fx
from tasks.compression.backends.torch.augment import image_augmenter
from tasks.compression.backends.torch.batches import Batches
from tasks.compression.backends.torch.checkpoints import Running, Weights, drawing
from tasks.compression.backends.torch.joint import Loss, RunningMetrics, loss_of, targets_of
from tasks.compression.backends.torch.network import Signature
from tasks.compression.backends.torch.norms import Norms
from tasks.compression.backends.torch.predict import predict
from tasks.compression.backends.torch.steps import FromLabels, Learning, Stepping
from tasks.compression.backends.torch.summaries import Summaries
from tasks.compression.backends.torch.teaching import Student, Teaching
from tasks.compression.backends.torch.training_parts import TrainingPart
from tasks.compression.context import Context
from tasks.compression.errors import CompressionError
from tasks.compression.objective import Objective
from tasks.compression.options import label_weights
from tasks.compression.resolve import resolved_aim
from tasks.compression.resuming import Keeping, Remembers
from tasks.compression.samples import Tensors
from tasks.compression.teaching import known_answers
from tasks.compression.training_parts import sparsity_of
from tasks.compression.watching import Watch, measured_on_validation, remark_on_options

__all__ = ["fit"]

Step = Finetune | Distill


def fit(
    model: fx.GraphModule,
    signature: Signature,
    step: Step,
    context: Context,
    parts: Sequence[TrainingPart],
    teaching: Teaching | None = None,
    summaries: Summaries | None = None,
) -> int:
    """Train `model`, wrapped for what it is to learn, and return the optimiser steps that were taken; it is
    left in evaluation.

    `parts` take part in every step; epochs that end before all of them are settled are neither kept as the
    best nor counted by early stopping. With `teaching` the labels are not the only aim, or none at all.

    The training goes on from the newest of `context.checkpoints`, and ends with the weights it would have
    had without the interruption.

    CompressionError unsupported_model for a model without weights to train. training_diverged when the loss
    is no longer finite; the model then has the weights of the last epoch in which it was, and the error's
    `kept` is that model if such an epoch has ended. Stopped, with a checkpoint kept, where `context.stop`
    asks for it.
    """
    objective = context.training_data.objectives[context.index]
    per_epoch = math.ceil(len(context.training_data.train) / step.batch_size)
    seed = context.seed if step.seed is None else step.seed
    loss, known = loss_of(objective), known_answers(teaching, step, context)
    learning: Learning = FromLabels(model, loss)
    if teaching is not None:
        learning = Student(teaching, model, loss)
    with (
        warnings.catch_warnings(),
        _frozen(model, step, context) as norms,
        drawing(seed),
        context.stop.held(),
    ):
        warnings.simplefilter("ignore")
        stepping = Stepping(model, learning, step, parts, norms, per_epoch)
        metrics = RunningMetrics(objective, losses=teaching is None)
        weights = Weights(model, parts)
        running = Running(weights, stepping.optimiser, metrics)
        settled = max((part.settled for part in parts), default=0)
        answer = partial(predict, model, signature)
        value = _validation_loss(loss, teaching, known, context)
        watch = Watch(
            step,
            context,
            weights,
            per_epoch=per_epoch,
            settled=settled,
            validation=lambda: measured_on_validation(step, context, answer, value),
            sparsity=lambda: sparsity_of(parts),
        )
        remark_on_options(step, context, per_epoch=per_epoch, settled=settled)
        memories: list[Remembers] = [running, watch, *([] if summaries is None else [summaries])]
        keeping = Keeping(context, memories, running.fits, epochs=step.epochs, per_epoch=per_epoch)
        batches = _batches(signature, step, context, seed, known if teaching and teaching.once else None)
        try:
            _run(stepping, batches, metrics, watch, keeping, summaries)
            watch.check_finite()  # the very last step may have done it
        except CompressionError as error:
            watch.restore_good()
            error.kept = watch.kept(model)
            raise
        finally:
            stepping.end()
    watch.restore_best()
    taken = watch.epochs * per_epoch
    context.record.details.update(optimiser_steps=taken, loss=resolved_aim(step, objective)["loss"])
    return taken


def _run(
    stepping: Stepping,
    batches: Batches,
    metrics: RunningMetrics,
    watch: Watch,
    keeping: Keeping,
    summaries: Summaries | None,
) -> None:
    """The epochs that are left."""
    first, done, over = keeping.take_up() or (0, 0, False)
    for epoch in range(first, 0 if over else stepping.epochs):
        watch.epoch_begins()
        if summaries is not None:
            summaries.epoch_begins(epoch, epoch * stepping.per_epoch)
        stepping.begin_epoch()
        if not done:
            metrics.begin()
        for taken, batch in enumerate(batches.of_epoch(epoch, done), done + 1):
            lesson = stepping.take(batch, epoch * stepping.per_epoch + taken)
            metrics.update(lesson.loss, lesson.each, batch.labels, lesson.outputs)
            watch.step_ended(taken, metrics.values())
            keeping.step_ended(epoch, taken)
        done = 0
        watch.epoch_ended(metrics.values())
        if summaries is not None:
            summaries.epoch_ended(epoch, metrics.values())
        keeping.epoch_ended(epoch + 1, early=watch.over)
        if watch.over:
            break
    if summaries is not None:
        summaries.training_ended(watch.epochs * stepping.per_epoch)


def _batches(
    signature: Signature, step: Step, context: Context, seed: int, answers: Tensors | None
) -> Batches:
    data = context.training_data
    objective = data.objectives[context.index]
    return Batches(
        data.x,
        signature.input_dtypes,
        objective.labels,
        data.train,
        step.batch_size,
        seed,
        answers=answers,
        weights=label_weights(step, objective, data.train),
        augment=None if step.augmentation is None else image_augmenter(step.augmentation, seed, data.x),
        reconstruct=isinstance(objective, Objective) and objective.labels_from == "inputs",
    )


def _validation_loss(
    loss: Loss, teaching: Teaching | None, known: Tensors | None, context: Context
) -> Callable[[Tensors, Tensors], float]:
    def value(labels: Tensors, outputs: Tensors) -> float:
        truth, given = targets_of(labels), targets_of(outputs)
        if teaching is None or known is None:
            return float(loss(truth, given))
        theirs = targets_of(known[context.training_data.validation])
        return float(teaching.loss(loss, truth, theirs, given))

    return value


@contextmanager
def _frozen(model: fx.GraphModule, step: Step, context: Context) -> Iterator[Norms]:
    """With `freeze_batch_norm`, batch normalisation computes as in inference and does not change."""
    norms = Norms(model)
    if step.freeze_batch_norm and not norms.layers:
        context.warn("no_batch_norm")
    with norms.frozen() if step.freeze_batch_norm else nullcontext():
        yield norms
