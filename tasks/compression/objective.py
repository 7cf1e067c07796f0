"""What a network is judged and trained by: from the spec, else the compiled model, else inferred from its
last layer and the labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from featherweight.report import Inference
from featherweight.spec import Finetune
from tasks.compression.errors import CompressionError
from tasks.compression.facts import ModelFacts

__all__ = ["Objective", "Task", "infer_objective"]

Task = Literal["classification", "binary", "multilabel", "regression"]
Source = Literal["spec", "compiled_model", "last_layer_and_labels", "data", "default"]

_CROSSENTROPIES = {"sparse_categorical_crossentropy", "categorical_crossentropy"}
_ERRORS = {"mean_squared_error", "mean_absolute_error"}
_METRICS: dict[Task, str] = {
    "classification": "accuracy",
    "binary": "binary_accuracy",
    "multilabel": "binary_accuracy",
}
_FITTING: dict[Task, set[str]] = {
    "classification": _CROSSENTROPIES,
    "binary": {"binary_crossentropy"},
    "multilabel": {"binary_crossentropy"},
    "regression": _ERRORS,
}
_ALLOWED: dict[Task, frozenset[str]] = {
    "classification": frozenset({"accuracy"}),
    "binary": frozenset({"accuracy", "binary_accuracy"}),
    "multilabel": frozenset({"accuracy", "binary_accuracy"}),
    "regression": frozenset(_ERRORS),
}


@dataclass(frozen=True)
class Objective:
    """`labels` as the loss takes them: class numbers for a classification, floats otherwise.

    `metrics[0]` is what the report measures. `classes` is None for a regression.
    """

    task: Task
    loss: str
    from_logits: bool
    metrics: tuple[str, ...]
    classes: int | None
    labels: npt.NDArray[Any]
    inferred: tuple[Inference, ...]


def infer_objective(facts: ModelFacts, labels: npt.NDArray[Any], step: Finetune | None) -> Objective:
    """Judge `labels` (axis 0 is the samples) against the model's output.

    Raises CompressionError: shape_mismatch, label_out_of_range, loss_not_inferable.
    """
    loss, source = _named_loss(facts, step)
    output = facts.outputs[0]
    task = _task(output, labels, loss, facts.output_activation)
    ready, one_hot = _labels(task, output, labels)
    if loss is None:
        loss = _inferred_loss(task)
    elif loss == "categorical_crossentropy" and task == "classification":
        loss = "sparse_categorical_crossentropy"  # the same value for a one-hot label and its class number
    _check_loss(loss, task)
    metrics, metrics_source = _metrics(facts, step, task, loss)
    from_logits, logits_source = _from_logits(facts, task, source)
    inferred = [
        Inference(field="loss", value=loss, source=source),
        Inference(field="metrics", value=list(metrics), source=metrics_source),
        Inference(field="task", value=task, source="last_layer_and_labels"),
    ]
    if task != "regression":
        inferred.append(Inference(field="from_logits", value=from_logits, source=logits_source))
    if task == "classification":
        inferred.append(Inference(field="labels", value="one_hot" if one_hot else "classes", source="data"))
    classes = _classes(task, output)
    return Objective(task, loss, from_logits, metrics, classes, ready, tuple(inferred))


def _named_loss(facts: ModelFacts, step: Finetune | None) -> tuple[str | None, Source]:
    if step is not None and step.loss is not None:
        return step.loss, "spec"
    if facts.compiled.loss is not None:
        return facts.compiled.loss, "compiled_model"
    return None, "last_layer_and_labels"


def _task(
    output: tuple[int | None, ...], labels: npt.NDArray[Any], loss: str | None, activation: str | None
) -> Task:
    shape = labels.shape[1:]
    if loss in _ERRORS and _fits(output, shape):
        return "regression"
    if output[-1:] == (1,) and (_fits(output, shape) or _fits(output[:-1], shape)):
        return _single_output_task(labels, loss, activation)
    if _fits(output[:-1], shape) or _fits((*output[:-1], 1), shape):
        if _integral(labels):
            return "classification"
        raise CompressionError(
            "loss_not_inferable",
            f"the model has {output[-1]} outputs and the labels are single numbers with fractions",
            hint="give class numbers, or targets of the same shape as the model's output",
        )
    if not _fits(output, shape):
        raise CompressionError(
            "shape_mismatch",
            f"labels of shape {_text(shape)} do not fit the model's output of shape {_text(output)}",
            hint=f"give class numbers 0 to {(output[-1] or 1) - 1}, one a sample, or one-hot rows",
        )
    return _wide_output_task(labels, loss, activation)


def _single_output_task(labels: npt.NDArray[Any], loss: str | None, activation: str | None) -> Task:
    if loss == "binary_crossentropy" or activation == "sigmoid":
        return "binary"
    if loss is None and labels.dtype.kind in "biu" and _only_0_and_1(labels):
        return "binary"
    return "regression"


def _wide_output_task(labels: npt.NDArray[Any], loss: str | None, activation: str | None) -> Task:
    if _only_0_and_1(labels):
        if loss == "binary_crossentropy" or (loss is None and activation == "sigmoid"):
            return "multilabel"
        if bool((labels.sum(axis=-1) == 1).all()):
            return "classification"
    if loss in _CROSSENTROPIES or (loss is None and activation == "softmax"):
        raise CompressionError(
            "loss_not_inferable",
            "the labels are neither class numbers nor one-hot rows",
            hint="give class numbers, or name the loss in the finetune step",
        )
    return "regression"


def _labels(
    task: Task, output: tuple[int | None, ...], labels: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], bool]:
    """Labels as the task's loss takes them, and whether they were one-hot."""
    if task == "classification":
        one_hot = labels.ndim == len(output) + 1 and labels.shape[-1] == output[-1] != 1
        numbers = labels.argmax(axis=-1) if one_hot else labels.reshape(labels.shape[: len(output)])
        _check_range(numbers, output[-1])
        return numbers.astype(np.int32), one_hot
    if task == "binary":
        if not _only_0_and_1(labels):
            raise CompressionError(
                "label_out_of_range", "the model has one output and a label is neither 0 nor 1"
            )
        return labels.reshape(-1, *(size or -1 for size in output)).astype(np.float32), False
    shaped = labels.reshape(*labels.shape[: len(output)], 1) if output[-1:] == (1,) else labels
    return shaped.astype(np.float32), False


def _check_range(numbers: npt.NDArray[Any], classes: int | None) -> None:
    if classes is None:
        return
    low, high = int(numbers.min()), int(numbers.max())
    if low >= 0 and high < classes:
        return
    from_one = low == 1 and high == classes
    raise CompressionError(
        "label_out_of_range",
        f"labels run from {low} to {high}, and the model's {classes} classes from 0 to {classes - 1}",
        hint="the labels start at 1: subtract 1"
        if from_one
        else "check that data set and model belong together",
    )


def _inferred_loss(task: Task) -> str:
    if task == "classification":
        return "sparse_categorical_crossentropy"
    return "mean_squared_error" if task == "regression" else "binary_crossentropy"


def _check_loss(loss: str, task: Task) -> None:
    fitting = _FITTING[task]
    if loss not in fitting:
        raise CompressionError(
            "loss_not_inferable",
            f"the loss {loss} does not go with this model's output and these labels ({task})",
            hint=f"name one of these in the finetune step: {', '.join(sorted(fitting))}",
        )


def _metrics(
    facts: ModelFacts, step: Finetune | None, task: Task, loss: str
) -> tuple[tuple[str, ...], Source]:
    if step is not None and step.metrics is not None:
        unfit = set(step.metrics) - _ALLOWED[task]
        if unfit:
            raise CompressionError(
                "loss_not_inferable",
                f"the metric {min(unfit)} does not go with this model's output and these labels ({task})",
                hint=f"offered: {', '.join(sorted(_ALLOWED[task]))}",
            )
        return tuple(dict.fromkeys(step.metrics)), "spec"
    compiled = tuple(name for name in facts.compiled.metrics if name in _ALLOWED[task])
    if compiled:
        return compiled, "compiled_model"
    return (_METRICS.get(task, loss),), "last_layer_and_labels"


def _from_logits(facts: ModelFacts, task: Task, source: Source) -> tuple[bool, Source]:
    if source == "compiled_model" and facts.compiled.from_logits is not None:
        return facts.compiled.from_logits, "compiled_model"
    probabilities = {"softmax", "sigmoid"}
    return task != "regression" and facts.output_activation not in probabilities, "last_layer_and_labels"


def _classes(task: Task, output: tuple[int | None, ...]) -> int | None:
    if task == "regression":
        return None
    return 2 if task == "binary" else output[-1]


def _fits(output: tuple[int | None, ...], shape: tuple[int, ...]) -> bool:
    return len(output) == len(shape) and all(
        size in (None, given) for size, given in zip(output, shape, strict=True)
    )


def _integral(labels: npt.NDArray[Any]) -> bool:
    return labels.dtype.kind in "biu" or bool((labels == np.floor(labels)).all())


def _only_0_and_1(labels: npt.NDArray[Any]) -> bool:
    return labels.dtype.kind == "b" or bool(((labels == 0) | (labels == 1)).all())


def _text(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
