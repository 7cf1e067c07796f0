"""What a network is judged and trained by: from the spec, else the compiled model, else inferred from its
last layer and the labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from featherweight.report import Inference
from featherweight.spec import Distill, Finetune
from tasks.compression.errors import CompressionError
from tasks.compression.facts import ModelFacts

__all__ = ["LabelSource", "Objective", "Task", "decided", "infer_objective", "stand_in_labels"]

Task = Literal["classification", "binary", "multilabel", "regression"]
LabelSource = Literal["caller", "inputs", "original"]
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

    `metrics[0]` is what the report measures. `classes` is None for a regression. `labels_from` is
    ``inputs`` where a network is to answer with its input, and ``original`` where the data set has no
    labels and the uploaded model's answers stand in for them: the metrics then say how like it a network is.
    """

    task: Task
    loss: str
    from_logits: bool
    metrics: tuple[str, ...]
    classes: int | None
    labels: npt.NDArray[Any]
    inferred: tuple[Inference, ...]
    labels_from: LabelSource = "caller"

    def called(self, metric: str) -> str:
        """The name a metric goes by, which says so where it compares with the original."""
        if self.labels_from != "original":
            return metric
        return "agreement_with_original" if metric.endswith("accuracy") else f"{metric}_from_original"


def stand_in_labels(facts: ModelFacts, x: npt.NDArray[Any], step: Finetune | Distill | None) -> LabelSource:
    """What stands in for labels that a data set lacks: the inputs for a network that answers in their
    shape and was not made to tell classes, else the original's answers."""
    loss, _ = _named_loss(facts, step)
    tells_classes = loss in _CROSSENTROPIES or (loss is None and facts.output_activation == "softmax")
    return "inputs" if _fits(facts.outputs[0], x.shape[1:]) and not tells_classes else "original"


def decided(
    facts: ModelFacts, answers: npt.NDArray[Any], step: Finetune | Distill | None
) -> npt.NDArray[Any]:
    """The original's answers as labels: class numbers, zeros and ones, or for a regression as they are.

    CompressionError loss_not_inferable for a `step` when nothing says which of them the outputs are.
    """
    loss, source = _named_loss(facts, step)
    activation = facts.output_activation
    if loss in _CROSSENTROPIES or (loss is None and activation == "softmax"):
        return np.asarray(answers.argmax(axis=-1))
    if loss == "binary_crossentropy" or (loss is None and activation == "sigmoid"):
        from_logits, _ = _from_logits(facts, "binary", source)
        return (answers > (0.0 if from_logits else 0.5)).astype(np.int32)
    if loss is None and step is not None:
        raise CompressionError(
            "loss_not_inferable",
            "neither the compiled model nor its last layer says whether its outputs are logits or values, "
            "and the data set has no labels",
            hint="name the loss: sparse_categorical_crossentropy, binary_crossentropy or mean_squared_error",
            pointer="/loss",
        )
    return answers


def infer_objective(
    facts: ModelFacts,
    labels: npt.NDArray[Any],
    step: Finetune | Distill | None,
    labels_from: LabelSource = "caller",
) -> Objective:
    """Judge `labels` (axis 0 is the samples) against the model's output.

    Raises CompressionError: shape_mismatch, label_out_of_range, loss_not_inferable, which may point into
    `step` (``/loss``).
    """
    loss, source = _named_loss(facts, step)
    output = facts.outputs[0]
    regression = labels_from == "inputs"
    task = "regression" if regression else _task(output, labels, loss, facts.output_activation)
    ready, one_hot = _labels(task, output, labels)
    if loss is None:
        loss = _inferred_loss(task)
    elif loss == "categorical_crossentropy" and task == "classification":
        loss = "sparse_categorical_crossentropy"  # the same value for a one-hot label and its class number
    _check_loss(loss, task, ready, facts.output_activation)
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
    if labels_from != "caller":
        inferred = [item for item in inferred if item.field != "labels"]
        inferred.append(Inference(field="labels", value=labels_from, source="data"))
    classes = _classes(task, output)
    return Objective(task, loss, from_logits, metrics, classes, ready, tuple(inferred), labels_from)


def _named_loss(facts: ModelFacts, step: Finetune | Distill | None) -> tuple[str | None, Source]:
    if step is not None and step.loss is not None:
        assert isinstance(step.loss, str), "a step is narrowed to the output first"
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
        if len(output) > 1 and not _only_0_and_1(labels) and _shares(labels):
            return "regression"  # shades of grey, not yes or no
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
    return shaped.astype(np.float32, copy=False), False  # a mapped array stays one


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


def _check_loss(loss: str, task: Task, labels: npt.NDArray[Any], activation: str | None) -> None:
    fitting = _FITTING[task]
    if task == "regression" and activation == "sigmoid" and _shares(labels):
        fitting = fitting | {"binary_crossentropy"}  # of shares, as autoencoders of pixels are trained
    if loss not in fitting:
        raise CompressionError(
            "loss_not_inferable",
            f"the loss {loss} does not go with this model's output and these labels ({task})",
            hint=f"name one of these in the finetune step: {', '.join(sorted(fitting))}",
            pointer="/loss",
        )


def _metrics(
    facts: ModelFacts, step: Finetune | Distill | None, task: Task, loss: str
) -> tuple[tuple[str, ...], Source]:
    if step is not None and step.metrics is not None:
        assert isinstance(step.metrics, tuple), "a step is narrowed to the output first"
        unfit = set(step.metrics) - _ALLOWED[task]
        if unfit:
            raise CompressionError(
                "loss_not_inferable",
                f"the metric {min(unfit)} does not go with this model's output and these labels ({task})",
                hint=f"offered: {', '.join(sorted(_ALLOWED[task]))}",
                pointer="/metrics",
            )
        return tuple(dict.fromkeys(step.metrics)), "spec"
    compiled = tuple(name for name in facts.compiled.metrics if name in _ALLOWED[task])
    if compiled:
        return compiled, "compiled_model"
    plain = "mean_squared_error" if loss not in _ERRORS else loss
    return (_METRICS.get(task, plain),), "last_layer_and_labels"


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


def _shares(labels: npt.NDArray[Any]) -> bool:
    return labels.size > 0 and bool(labels.min() >= 0 and labels.max() <= 1)


def _text(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
