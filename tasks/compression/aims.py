"""What each training step trains by and what the files are measured by, for all outputs of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from featherweight.report import Inference, ReportWarning
from featherweight.spec import CompressionSpec, Distill, Finetune
from tasks.compression.arrays import Names, array_pointer, missing
from tasks.compression.errors import CompressionError
from tasks.compression.facts import ModelFacts
from tasks.compression.objective import Objective, decided, infer_objective, stand_in_labels
from tasks.compression.objectives import Aim, Objectives, each_output
from tasks.compression.remarks import remark
from tasks.compression.samples import Array, Samples, Tensors, arrays_of

__all__ = ["Answer", "check_output_names", "infer_aims", "training_steps"]

Warn = Callable[[ReportWarning], None]
Answer = Callable[[Tensors], Tensors]
Training = Finetune | Distill

_Value = TypeVar("_Value")


def training_steps(spec: CompressionSpec) -> Iterator[tuple[int, Training]]:
    for index, step in enumerate(spec.steps):
        if isinstance(step, Finetune | Distill):
            yield index, step


def infer_aims(
    facts: ModelFacts,
    spec: CompressionSpec,
    x: Tensors,
    labels: Mapping[str, Array],
    warn: Warn,
    answer: Answer,
) -> tuple[dict[int, Aim], Aim]:
    """The aim of every training step, by its index, and the last one's, or what is inferred without any.

    `labels` are by output. Where they are lacking and not needed, the inputs or what `answer`, the original,
    says of them take their place. CompressionError array_missing, invalid_request, and what objective raises.
    """
    inference = _Inference(facts, x, labels, answer)
    for index, step in training_steps(spec):
        check_output_names(step, facts, f"/steps/{index}")
    aims = {index: inference.aim(step, f"/steps/{index}") for index, step in training_steps(spec)}
    last = aims[max(aims)] if aims else inference.aim(None, "")
    _remark_on(aims, last, spec, warn)
    return aims, last


def check_output_names(step: Training, facts: Names, pointer: str) -> None:
    """CompressionError invalid_request for a name in a mapping that no output of the model has."""
    if step.loss_weights is not None and len(facts.output_names) == 1:
        raise CompressionError(
            "invalid_request",
            "loss_weights weigh the losses of several outputs against each other, and the model has one",
            hint="leave them out",
            pointer=f"{pointer}/loss_weights",
        )
    for field in ("loss", "metrics", "loss_weights"):
        value = getattr(step, field)
        for name in value if isinstance(value, Mapping) else ():
            if name not in facts.output_names:
                raise CompressionError(
                    "invalid_request",
                    f"the model has no output {name}; its outputs are {', '.join(facts.output_names)}",
                    pointer=f"{pointer}/{field}/{_escaped(name)}",
                )


class _Inference:
    """The original is asked once, and only where it is needed."""

    def __init__(self, facts: ModelFacts, x: Tensors, labels: Mapping[str, Array], answer: Answer) -> None:
        self._facts = facts
        self._x = x
        self._labels = labels
        self._answer = answer
        self._answers: tuple[Array, ...] | None = None

    def aim(self, step: Training | None, pointer: str) -> Aim:
        facts = self._facts
        self._check_labels(step)
        if len(facts.outputs) == 1:
            with _within(pointer):
                return self._objective(0, step)
        parts = {}
        for index, name in enumerate(facts.output_names):
            with _within(pointer), _said_of(name, name in self._labels):
                parts[name] = self._objective(index, step)
        weights, inferred = _weights(facts, step)
        aim = Objectives(parts, weights, inferred)
        trained = parts if isinstance(step, Distill) else aim.labelled
        if step is not None and not any(weights[name] for name in trained):
            raise CompressionError(
                "invalid_request",
                "the loss_weights leave nothing to train by",
                pointer=f"{pointer}/loss_weights",
            )
        return aim

    def _check_labels(self, step: Training | None) -> None:
        if self._labels or step is None or (isinstance(step, Distill) and step.weight == 1):
            return
        if len(self._facts.outputs) == 1 and self._stand_in(step) == "inputs":
            return
        several = len(self._facts.outputs) > 1
        name = f"y/{self._facts.output_names[0]}" if several else "y"
        hint = (
            f"distillation needs no labels with weight 1; else give {'y/<output>' if several else 'x and y'}"
        )
        if isinstance(step, Distill):
            raise missing(name, self._facts, hint)
        error = missing(name, self._facts)
        error.hint = f"{error.hint}; distill with weight 1 trains without labels"
        raise error

    def _objective(self, index: int, step: Training | None) -> Objective:
        facts = self._facts.of_output(index)
        name = self._facts.output_names[index]
        narrow = None if step is None else narrowed(step, name)
        if name in self._labels:
            return infer_objective(facts, self._labels[name], narrow)
        if self._stand_in(narrow) == "inputs":
            return infer_objective(facts, arrays_of(self._x)[0], narrow, "inputs")
        if isinstance(narrow, Finetune) and narrow.loss is None:
            narrow = None  # it is not trained, and need not be known any better
        return infer_objective(facts, decided(facts, self._answered(index), narrow), narrow, "original")

    def _stand_in(self, step: Training | None) -> str:
        """Only a model of one input and one output is taken for an autoencoder without being told."""
        if isinstance(self._x, Samples) or len(self._facts.outputs) > 1:
            return "original"
        loss = narrowed(step, self._facts.output_names[0]) if step is not None else None
        return stand_in_labels(self._facts, self._x, loss)

    def _answered(self, index: int) -> Array:
        if self._answers is None:
            self._answers = arrays_of(self._answer(self._x))
        return self._answers[index]


def narrowed(step: Training, output: str) -> Training:
    """`step` with the loss and the metrics that it gives the output."""
    return step.model_copy(update={"loss": _of(step.loss, output), "metrics": _of(step.metrics, output)})


def _of(value: _Value | Mapping[str, _Value], output: str) -> _Value | None:
    return value.get(output) if isinstance(value, Mapping) else value


@contextmanager
def _said_of(name: str, labelled: bool) -> Iterator[None]:
    """Errors say which output they are about, and point to its labels where not into the step."""
    try:
        yield
    except CompressionError as error:
        error.detail = f"output {name}: {error.detail}"
        error.pointer = error.pointer or (array_pointer(f"y/{name}") if labelled else None)
        raise


@contextmanager
def _within(pointer: str) -> Iterator[None]:
    """Pointers into a step become pointers into the spec; where there is no step, none is left."""
    try:
        yield
    except CompressionError as error:
        if error.pointer in ("/loss", "/metrics"):
            error.pointer = f"{pointer}{error.pointer}" if pointer else None
        raise


def _weights(facts: ModelFacts, step: Training | None) -> tuple[dict[str, float], Inference]:
    compiled = {output.name: output.compiled.loss_weight for output in facts.each_output}
    given = None if step is None else step.loss_weights
    if given is not None:
        weights = {name: float(given.get(name, 1.0)) for name in facts.output_names}
        return weights, Inference(field="loss_weights", value=weights, source="spec")
    weights = {name: 1.0 if weight is None else weight for name, weight in compiled.items()}
    if any(weight is not None for weight in compiled.values()):
        return weights, Inference(field="loss_weights", value=weights, source="compiled_model")
    return weights, Inference(field="loss_weights", value=weights, source="default")


def _remark_on(aims: Mapping[int, Aim], last: Aim, spec: CompressionSpec, warn: Warn) -> None:
    for name, part, _ in each_output(last):
        metric = part.called(part.metrics[0])
        if part.labels_from == "original" and name:
            warn(remark("output_without_labels", output=name, metric=metric))
        elif part.labels_from == "original":
            warn(remark("no_labels", metric=metric))
    for index, aim in aims.items():
        if isinstance(spec.steps[index], Finetune) and isinstance(aim, Objectives):
            for name in aim.by_output.keys() - aim.labelled.keys():
                warn(remark("output_not_trained", index=index, output=name))


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
