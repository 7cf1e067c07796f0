"""What is watched at the end of each epoch of a training, whatever framework trains."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from featherweight.report import EpochReport
from featherweight.spec import Distill, Finetune, StepRate
from tasks.compression.context import Context
from tasks.compression.errors import CompressionError, Kept
from tasks.compression.evaluate import metric_values
from tasks.compression.objectives import each_output, main_metric, main_output
from tasks.compression.rates import Rate
from tasks.compression.resuming import State
from tasks.compression.samples import Array, Tensors

__all__ = ["Watch", "Weights", "measured_on_validation", "remark_on_options"]

Step = Finetune | Distill

_REMEMBERED = ("epochs", "_good_epoch", "_best_value", "_best_epoch", "_reference", "_waited")


class Weights(Protocol):
    """What a training changes and may be brought back, in an order that stays."""

    def read(self) -> list[Array]: ...

    def write(self, arrays: Sequence[Array]) -> None: ...

    def finite(self, arrays: Sequence[Array]) -> bool:
        """Whether what `read` gave holds numbers alone."""


class Watch:
    """Says how far training is, judges each epoch as it ends, tells a training to end that is no use any
    more, and remembers the weights worth coming back to.

    `settled` is the step before which no epoch is chosen from; `validation` gives the metrics of the
    validation split, and `sparsity` the share of zeros that is told of an epoch.
    """

    def __init__(
        self,
        step: Step,
        context: Context,
        weights: Weights,
        *,
        per_epoch: int,
        settled: int,
        validation: Callable[[], Mapping[str, float]],
        sparsity: Callable[[], float | None],
    ) -> None:
        self._step = step
        self._objective = context.training_data.objectives[context.index]
        self._weights = weights
        self._rate = Rate(step, per_epoch)
        self._per_epoch = per_epoch
        self._settled = settled
        self._validation = validation
        self._sparsity = sparsity
        self._context = context
        self._began = time.perf_counter()
        self._spent_s = 0.0  # by earlier attempts, in the epoch that they broke off
        self._good = weights.read()
        self._best: list[Array] | None = None
        self._best_value = self._reference = math.inf
        self._best_epoch = 0
        self._waited = 0
        self._good_epoch = 0
        self.epochs = 0  # that have ended
        self.over = False

    def epoch_begins(self) -> None:
        self._began = time.perf_counter() - self._spent_s
        self._spent_s = 0.0

    def step_ended(self, taken: int, metrics: Mapping[str, float]) -> None:
        """After `taken` steps of the epoch. CompressionError training_diverged."""
        done = self.epochs * self._per_epoch + taken
        if not math.isfinite(metrics.get("loss", 0.0)):
            raise self._diverged(self.epochs + 1, done)
        self._context.progress.advance(done, self._per_epoch * self._step.epochs, metrics)

    def epoch_ended(self, training: Mapping[str, float]) -> None:
        """With what the epoch's steps measured; `over` is true if no other is to follow."""
        self.epochs += 1
        metrics = {**training, **self._validation()}
        metrics["learning_rate"] = self._rate(self.epochs * self._per_epoch - 1)
        self._context.record.epochs.append(
            EpochReport(
                epoch=self.epochs,
                seconds=round(time.perf_counter() - self._began, 4),
                metrics=metrics,
                sparsity=self._sparsity(),
            )
        )
        text = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        self._context.progress.log(f"epoch {self.epochs} of {self._step.epochs}: {text}")
        arrays = self._weights.read()
        if self._weights.finite(arrays):
            self._good, self._good_epoch = arrays, self.epochs
            self._judge(metrics, arrays)
        self._began = time.perf_counter()

    def check_finite(self) -> None:
        """After the last step, which no loss has seen. CompressionError training_diverged."""
        if not self._weights.finite(self._weights.read()):
            raise self._diverged(self.epochs, self.epochs * self._per_epoch)

    def restore_good(self) -> None:
        self._weights.write(self._good)

    def kept(self, model: Any) -> Kept | None:
        """`model`, after `restore_good`; None where no epoch had ended with finite weights."""
        if not self._good_epoch:
            return None
        return Kept(model, f"the model as it was at the end of epoch {self._good_epoch}")

    def restore_best(self) -> None:
        """With what keeps zeros: what comes back was pruned as the epoch's own masks say."""
        if self._step.keep_best and self._best is not None:
            self._weights.write(self._best)
            self._context.record.details.update(best_epoch=self._best_epoch)

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

    def _judge(self, metrics: Mapping[str, float], arrays: list[Array]) -> None:
        """Compare the epoch with the best before it, in the monitored value with the sign that makes less
        better."""
        value = self._monitored(metrics)
        if self.epochs * self._per_epoch < self._settled or value is None:
            return
        if value < self._best_value:
            self._best_value, self._best_epoch = value, self.epochs
            self._best = arrays if self._step.keep_best else None
        stopping = self._step.early_stopping
        if stopping is None:
            return
        better = value < self._reference - stopping.min_delta
        self._waited = 0 if better else self._waited + 1
        self._reference = value if better else self._reference
        if self._waited >= stopping.patience and self.epochs < self._step.epochs:
            self.over = True
            self._context.record.details.update(stopped_after_epoch=self.epochs)
            self._context.progress.log(f"stopped early after epoch {self.epochs}")

    def _monitored(self, metrics: Mapping[str, float]) -> float | None:
        stopping = self._step.early_stopping
        if stopping is None or stopping.monitor == "val_loss":
            return metrics.get("val_loss")
        value = metrics.get(f"val_{main_metric(self._objective)}")
        higher_is_better = main_output(self._objective).metrics[0].endswith("accuracy")
        return -value if value is not None and higher_is_better else value

    def _diverged(self, epoch: int, done: int) -> CompressionError:
        rate = self._rate(max(0, done - 1))
        none = "" if self._good_epoch else "; no epoch had ended before: there is no checkpoint to keep"
        return CompressionError(
            "training_diverged",
            f"the loss became NaN or infinite in epoch {epoch}, by step {done}, at learning rate {rate:g}"
            f"{none}",
            hint=f"try a learning rate of {self._step.learning_rate / 10:g}, or gradient_clip_norm, "
            "and check the scale of the samples",
        )


def measured_on_validation(
    step: Step,
    context: Context,
    answer: Callable[[Tensors], Tensors],
    loss: Callable[[Tensors, Tensors], float],
) -> dict[str, float]:
    """The loss and the metrics of what `answer` gives for the validation split, as an epoch reports them;
    those that are no finite number are left out."""
    data = context.training_data
    if not len(data.validation) or not step.validation_split:
        return {}
    objective = data.objectives[context.index]
    labels = objective.labels[data.validation]
    outputs = answer(data.x[data.validation])
    values = {"val_loss": loss(labels, outputs)}
    for output, part, (given, truth) in each_output(objective, outputs, labels):
        prefix = f"val_{output}_" if output else "val_"
        for name in part.metrics:
            value = float(metric_values(name, part, given, truth).mean())
            values[f"{prefix}{part.called(name)}"] = value
    return {name: value for name, value in values.items() if math.isfinite(value)}


def remark_on_options(step: Step, context: Context, *, per_epoch: int, settled: int) -> None:
    """Warn of options that cannot do what they are there for in a training of `per_epoch` steps an epoch."""
    schedule, total = step.learning_rate_schedule, per_epoch * step.epochs
    # Of the epochs, those that end with pruning at its final sparsity.
    count = sum(epoch * per_epoch >= settled for epoch in range(1, step.epochs + 1))
    if step.epochs > 1 and count < 2:
        for name in ("keep_best", "early_stopping"):
            if getattr(step, name):
                context.warn("best_among_few", option=name, count=count, epochs=step.epochs, step=settled)
    if schedule.warmup_steps >= total:
        reached = step.learning_rate * total / schedule.warmup_steps
        context.warn("warm_up_not_finished", warmup=schedule.warmup_steps, steps=total, reached=reached)
    if isinstance(schedule, StepRate) and schedule.every_epochs >= step.epochs:
        context.warn("rate_never_falls", every=schedule.every_epochs, epochs=step.epochs)
    if step.augmentation is not None and not any(step.augmentation.model_dump().values()):
        context.warn("augmentation_empty")
