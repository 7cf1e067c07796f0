"""The caller's samples: read, checked against the model, and divided once for the whole job."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from featherweight.report import DataCounts, ReportWarning
from featherweight.spec import CompressionSpec, Distill, Finetune, Quantize
from tasks.compression.errors import CompressionError
from tasks.compression.facts import ModelFacts, Shape
from tasks.compression.npz import read_arrays
from tasks.compression.objective import Objective, decided, infer_objective, stand_in_labels
from tasks.compression.options import check_options
from tasks.compression.remarks import remark
from tasks.compression.split import draw, stratified

__all__ = ["MIN_SAMPLES", "Data", "prepare", "validation_share"]

MIN_SAMPLES = 20
VALIDATION_TO_CHOOSE_BY = 0.1
TEST_ADVISED = 100
CALIBRATION_ADVISED = 100

_KEYS = frozenset({"x", "y", "x_train", "y_train", "x_test", "y_test"})
_CHUNK = 1 << 24
_ARRAYS_HINT = "give x and y, or x_train, y_train and, if there is a test split, x_test, y_test"

Array = npt.NDArray[Any]
Warn = Callable[[ReportWarning], None]
Answer = Callable[[Array], Array]


@dataclass(frozen=True)
class Data:
    """`x` and the objectives' labels hold every sample; the splits are sorted indices into them.

    No index is in two of train, validation and test; calibration is a part of train. `objective` is what
    the outputs are measured by, `objectives` what each training step (by its index) trains by.
    """

    x: Array
    objective: Objective
    objectives: Mapping[int, Objective]
    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    calibration: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]
    test_source: Literal["caller", "split"]

    def counts(self) -> DataCounts:
        return DataCounts(
            samples=len(self.x),
            train=len(self.train),
            validation=len(self.validation),
            calibration=len(self.calibration),
            test=len(self.test),
            classes=self.objective.classes,
            test_source=self.test_source,
        )


@dataclass(frozen=True)
class _Samples:
    x: Array
    y: Array | None
    test_from: int | None  # samples from here on are the caller's test split


def prepare(path: Path, facts: ModelFacts, spec: CompressionSpec, warn: Warn, answer: Answer) -> Data:
    """Read the data set and divide it as `spec` says.

    Where labels are lacking and not needed, the inputs or what `answer`, the original, says of them take
    their place. The validation split is the largest any training step asks for, made once: no later step
    may train on what an earlier one was chosen by. Raises CompressionError (bad_data, array_missing,
    not_finite, shape_mismatch, label_out_of_range, too_few_samples and what npz, objective and options
    raise).
    """
    samples = _pair(read_arrays(path, _KEYS))
    _check_finite("x", samples.x)
    x = _fit_input(samples.x, facts.inputs[0], warn)
    if len(x) < MIN_SAMPLES:
        raise CompressionError("too_few_samples", f"{len(x)} samples; at least {MIN_SAMPLES} are needed")
    if samples.y is None:
        objectives, objective = _without_labels(x, facts, spec, warn, answer)
    else:
        _check_finite("y", samples.y)
        objectives, objective = _objectives(facts, spec, samples.y)
    for index, step in _training(spec):
        check_options(step, objectives[index], facts, f"/steps/{index}")
    data = _divide(x, objective, objectives, samples.test_from, spec)
    _remark_on(data, spec, warn)
    return data


def _training(spec: CompressionSpec) -> Iterator[tuple[int, Finetune | Distill]]:
    for index, step in enumerate(spec.steps):
        if isinstance(step, Finetune | Distill):
            yield index, step


def _objectives(
    facts: ModelFacts, spec: CompressionSpec, labels: Array
) -> tuple[dict[int, Objective], Objective]:
    objectives = {index: infer_objective(facts, labels, step) for index, step in _training(spec)}
    last = objectives[max(objectives)] if objectives else infer_objective(facts, labels, None)
    return objectives, last


def _without_labels(
    x: Array, facts: ModelFacts, spec: CompressionSpec, warn: Warn, answer: Answer
) -> tuple[dict[int, Objective], Objective]:
    answers: list[Array] = []  # the original is asked once, and only where it is needed

    def objective(step: Finetune | Distill | None) -> Objective:
        if stand_in_labels(facts, x, step) == "inputs":
            return infer_objective(facts, x, step, "inputs")
        if step is not None and not (isinstance(step, Distill) and step.weight == 1):
            raise _missing("y", _labels_hint(step))
        answers[:] = answers or [answer(x)]
        return infer_objective(facts, decided(facts, answers[0], step), step, "original")

    objectives = {index: objective(step) for index, step in _training(spec)}
    last = objectives[max(objectives)] if objectives else objective(None)
    if last.labels_from == "original":
        warn(remark("no_labels", metric=last.called(last.metrics[0])))
    return objectives, last


def _labels_hint(step: Finetune | Distill) -> str:
    if isinstance(step, Distill):
        return "distillation needs no labels with weight 1; else give x and y"
    return f"{_ARRAYS_HINT}; distill with weight 1 trains without labels"


def _pair(arrays: Mapping[str, Array]) -> _Samples:
    if "x_train" in arrays or "y_train" in arrays:
        return _pair_with_test(arrays)
    if "y" not in arrays:
        return _Samples(_named(arrays, "x"), None, None)
    x, y = _named(arrays, "x"), _named(arrays, "y")
    _check_lengths("x", x, "y", y)
    return _Samples(x, y, None)


def _pair_with_test(arrays: Mapping[str, Array]) -> _Samples:
    if not {"y_train", "y_test"} & set(arrays):
        return _unlabelled_with_test(_named(arrays, "x_train"), arrays.get("x_test"))
    x, y = _named(arrays, "x_train"), _named(arrays, "y_train")
    _check_lengths("x_train", x, "y_train", y)
    if "x_test" not in arrays and "y_test" not in arrays:
        return _Samples(x, y, None)
    x_test, y_test = _named(arrays, "x_test"), _named(arrays, "y_test")
    _check_lengths("x_test", x_test, "y_test", y_test)
    if x_test.shape[1:] != x.shape[1:] or y_test.shape[1:] != y.shape[1:]:
        raise _unlike()
    return _Samples(np.concatenate([x, x_test]), np.concatenate([y, y_test]), len(x))


def _named(arrays: Mapping[str, Array], name: str) -> Array:
    if name not in arrays:
        raise _missing(name, _ARRAYS_HINT)
    return arrays[name]


def _missing(name: str, hint: str) -> CompressionError:
    return CompressionError("array_missing", f"the data set has no array {name}", hint=hint)


def _unlabelled_with_test(x: Array, x_test: Array | None) -> _Samples:
    if x_test is None:
        return _Samples(x, None, None)
    if x_test.shape[1:] != x.shape[1:]:
        raise _unlike()
    return _Samples(np.concatenate([x, x_test]), None, len(x))


def _unlike() -> CompressionError:
    return CompressionError(
        "shape_mismatch", "the test split's samples are shaped unlike the training split's"
    )


def _check_lengths(x_name: str, x: Array, y_name: str, y: Array) -> None:
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        lengths = [str(len(array)) if array.ndim else "no" for array in (x, y)]
        raise CompressionError(
            "shape_mismatch", f"{x_name} has {lengths[0]} samples and {y_name} has {lengths[1]}"
        )


def _check_finite(name: str, array: Array) -> None:
    if array.dtype.kind != "f":
        return
    flat = array.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        good = np.isfinite(flat[start : start + _CHUNK])
        if not good.all():
            sample = (start + int(good.argmin())) // max(1, math.prod(array.shape[1:]))
            raise CompressionError(
                "not_finite",
                f"{name} holds NaN or infinity, first in sample {sample}",
                hint="drop those samples or fill the values in",
            )


def _fit_input(x: Array, wanted: Shape, warn: Warn) -> Array:
    """`x` as the model takes it; a missing channel axis of size 1 is added, and said."""
    return x[..., np.newaxis] if lacks_channel_axis(x.shape[1:], wanted, warn) else x


def lacks_channel_axis(given: tuple[int, ...], wanted: Shape, warn: Warn) -> bool:
    """Whether samples of the shape `given` need a channel axis to be what the model takes, which is said.

    CompressionError shape_mismatch for samples that do not fit."""
    if _fits(given, wanted):
        return False
    if wanted[-1:] == (1,) and _fits((*given, 1), wanted):
        warn(remark("channel_axis_added", before=_text(given), after=_text((*given, 1))))
        return True
    raise CompressionError(
        "shape_mismatch",
        f"samples of shape {_text(given)} do not fit the model's input of shape {_text(wanted)}",
        hint=_reshape_hint(given, wanted),
    )


def _reshape_hint(given: tuple[int, ...], wanted: Shape) -> str | None:
    sizes = [size for size in wanted if size is not None]
    if len(sizes) != len(wanted):
        return None
    if sorted(sizes) == sorted(given):
        return "the axes seem to be in another order: numpy.moveaxis moves one"
    if math.prod(sizes) == math.prod(given):
        return f"the number of values fits: x.reshape({', '.join(map(str, (-1, *sizes)))})"
    return None


def _divide(
    x: Array,
    objective: Objective,
    objectives: Mapping[int, Objective],
    test_from: int | None,
    spec: CompressionSpec,
) -> Data:
    everything = np.arange(len(x), dtype=np.int64)
    classes = objective.labels if objective.labels.ndim == 1 else None
    if test_from is None:
        pool, test = stratified(everything, classes, spec.split.test, spec.seed)
    else:
        pool, test = everything[:test_from], everything[test_from:]
    train, validation = stratified(pool, classes, validation_share(spec), spec.seed + 1)
    if not len(train) or not len(test):
        raise CompressionError(
            "too_few_samples",
            f"{len(train)} samples are left to train on and {len(test)} to test on",
            hint="send more samples or make the splits smaller",
        )
    calibration = draw(train, calibration_samples(spec), spec.seed + 2)
    source: Literal["caller", "split"] = "split" if test_from is None else "caller"
    return Data(x, objective, objectives, train, validation, calibration, test, source)


def validation_share(spec: CompressionSpec) -> float:
    """The share of the training samples held out: the largest any step asks for, or a tenth where only
    quantisation chooses by them."""
    shares = [step.validation_split for _, step in _training(spec)]
    chosen_by = any(isinstance(step, Quantize) and step.compares for step in spec.steps)
    return max(shares, default=0.0) or (VALIDATION_TO_CHOOSE_BY if chosen_by else 0.0)


def calibration_samples(spec: CompressionSpec) -> int:
    """How many the spec asks for; 0 where nothing is calibrated."""
    steps = (step for step in spec.steps if isinstance(step, Quantize) and step.calibrates)
    return max((step.calibration_samples for step in steps), default=0)


def _remark_on(data: Data, spec: CompressionSpec, warn: Warn) -> None:
    if len(data.test) < TEST_ADVISED:
        warn(remark("test_split_small", count=len(data.test)))
    if calibration_samples(spec) and len(data.calibration) < CALIBRATION_ADVISED:
        warn(remark("calibration_small", count=len(data.calibration), wanted=CALIBRATION_ADVISED))
    objective = data.objective
    if objective.task == "classification" and objective.classes and objective.labels_from == "caller":
        missing = objective.classes - len(np.unique(objective.labels[data.train]))
        if missing > 0:
            warn(remark("class_missing_in_training", count=missing, classes=objective.classes))


def _fits(given: tuple[int, ...], wanted: Shape) -> bool:
    return len(given) == len(wanted) and all(
        size in (None, have) for size, have in zip(wanted, given, strict=True)
    )


def _text(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
