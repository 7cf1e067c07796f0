"""The caller's samples: read, checked against the model, and divided once for the whole job."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from featherweight.report import DataCounts, DataSource, ReportWarning
from featherweight.spec import CompressionSpec, Quantize
from tasks.compression.aims import Answer, infer_aims, training_steps
from tasks.compression.arrays import Given, array_pointer, read_given
from tasks.compression.datasets.opened import open_dataset
from tasks.compression.duplicates import also_among
from tasks.compression.errors import CompressionError
from tasks.compression.facts import ModelFacts, Shape
from tasks.compression.objectives import Aim, each_output, main_output
from tasks.compression.options import check_options
from tasks.compression.remarks import remark
from tasks.compression.samples import Array, Tensors, arrays_of, gathered
from tasks.compression.split import draw, stratified

__all__ = ["MIN_SAMPLES", "Data", "prepare", "too_few_samples", "validation_share"]

MIN_SAMPLES = 20
VALIDATION_TO_CHOOSE_BY = 0.1
TEST_ADVISED = 100
CALIBRATION_ADVISED = 100

_CHUNK = 1 << 24

Warn = Callable[[ReportWarning], None]


@dataclass(frozen=True)
class Data:
    """`x` and the objectives' labels hold every sample; the splits are sorted indices into them.

    No index is in two of train, validation and test; calibration is a part of train. `objective` is what
    the outputs are measured by, `objectives` what each training step (by its index) trains by.
    """

    x: Tensors
    objective: Aim
    objectives: Mapping[int, Aim]
    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    calibration: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]
    test_source: Literal["caller", "split"]
    source: DataSource | None = None

    def counts(self) -> DataCounts:
        return DataCounts(
            samples=len(self.x),
            train=len(self.train),
            validation=len(self.validation),
            calibration=len(self.calibration),
            test=len(self.test),
            classes=main_output(self.objective).classes,
            test_source=self.test_source,
            source=self.source,
        )


def prepare(
    path: Path, facts: ModelFacts, spec: CompressionSpec, scratch: Path, warn: Warn, answer: Answer
) -> Data:
    """Read the data set, decoding it into `scratch` where it is no ``.npz``, and divide it as `spec` says.

    Where labels are lacking and not needed, the inputs or what `answer`, the original, says of them take
    their place. The validation split is the largest any training step asks for, made once: no later step
    may train on what an earlier one was chosen by. Raises CompressionError (bad_data, array_missing,
    not_finite, shape_mismatch, input_out_of_range, label_out_of_range, too_few_samples and what datasets,
    npz, objective and options raise).
    """
    opened = open_dataset(path, facts, spec.data, scratch, warn)
    given = read_given(opened, facts)
    x = _inputs(given, facts, warn)
    if len(x) < MIN_SAMPLES:
        raise too_few_samples(len(x))
    for name, labels in given.y.items():
        _check_finite(given.called["y", name], labels)
    objectives, objective = infer_aims(facts, spec, x, given.y, warn, answer)
    for index, step in training_steps(spec):
        check_options(step, objectives[index], facts, f"/steps/{index}")
    data = _divide(x, objective, objectives, given.test_from, spec)
    _remark_on(data, spec, warn)
    return replace(data, source=opened.source(next(iter(given.x.values()))))


def too_few_samples(count: int) -> CompressionError:
    return CompressionError(
        "too_few_samples",
        f"{count} samples; at least {MIN_SAMPLES} are needed",
        hint="send more samples: there have to be some to train on, to calibrate and to test",
    )


def _inputs(given: Given, facts: ModelFacts, warn: Warn) -> Tensors:
    for name, array in given.x.items():
        _check_finite(given.called["x", name], array)
    fitted = [
        _fit_input(array, wanted, given.called["x", name], warn)
        for (name, array), wanted in zip(given.x.items(), facts.inputs, strict=True)
    ]
    for (name, array), count in zip(given.x.items(), facts.input_ranges, strict=False):
        _check_range(given.called["x", name], array, count)
    return gathered(given.x, fitted)


def _check_range(name: str, array: Array, count: int | None) -> None:
    """Of indices into an embedding of `count` vectors. What no whole number is counts by its whole part."""
    if count is None or not array.size:
        return
    low, high = array.min(), array.max()
    if low <= -1 or high >= count:
        raise CompressionError(
            "input_out_of_range",
            f"{name} runs from {low:g} to {high:g}, and the embedding it goes into has the entries 0 to "
            f"{count - 1}",
            hint="number the tokens as in training; those the model has never seen need an entry of its own",
            pointer=array_pointer(name) if "/" in name else None,
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


def _fit_input(x: Array, wanted: Shape, name: str, warn: Warn) -> Array:
    """`x` as the model takes it; a missing channel axis of size 1 is added, and said."""
    place = lacking_channel_axis(x.shape[1:], wanted, name, warn)
    return x if place is None else np.expand_dims(x, -1 if place else 1)


def lacking_channel_axis(given: tuple[int, ...], wanted: Shape, name: str, warn: Warn) -> int | None:
    """Where samples of the shape `given`, those of the array `name`, need a channel axis to be what the model
    takes, which is said: 0 before the others, -1 after them; None where they need none.

    CompressionError shape_mismatch for samples that do not fit."""
    if _fits(given, wanted):
        return None
    for place, added in ((-1, (*given, 1)), (0, (1, *given))):
        if wanted[place : place + 1 or None] == (1,) and _fits(added, wanted):
            of = f" {name}" if "/" in name else ""
            warn(remark("channel_axis_added", of=of, before=_text(given), after=_text(added)))
            return place
    raise CompressionError(
        "shape_mismatch",
        f"{_samples(name)} of shape {_text(given)} do not fit the model's input of shape {_text(wanted)}",
        hint=_reshape_hint(given, wanted),
        pointer=array_pointer(name) if "/" in name else None,
    )


def _samples(name: str) -> str:
    return f"samples {name}" if "/" in name else "samples"


def _reshape_hint(given: tuple[int, ...], wanted: Shape) -> str:
    sizes = [size for size in wanted if size is not None]
    if len(sizes) != len(wanted):
        return (
            f"every sample has to have the shape of the model's input, {_text(wanted)}, None being any size"
        )
    if sorted(sizes) == sorted(given):
        return "the axes seem to be in another order: numpy.moveaxis moves one"
    if math.prod(sizes) == math.prod(given):
        return f"the number of values fits: x.reshape({', '.join(map(str, (-1, *sizes)))})"
    return f"every sample has to have the shape of the model's input, {_text(wanted)}"


def _divide(
    x: Tensors,
    objective: Aim,
    objectives: Mapping[int, Aim],
    test_from: int | None,
    spec: CompressionSpec,
) -> Data:
    everything = np.arange(len(x), dtype=np.int64)
    classes = _strata(objective)
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


def _strata(objective: Aim) -> Array | None:
    """The labels that samples are divided by, class by class: those of the first classification, which of
    several outputs has labels if one does."""
    parts = [part for _, part, _ in each_output(objective) if part.labels.ndim == 1]
    parts.sort(key=lambda part: part.labels_from == "original")
    return parts[0].labels if parts else None


def validation_share(spec: CompressionSpec) -> float:
    """The share of the training samples held out: the largest any step asks for, or a tenth where only
    quantisation chooses by them."""
    shares = [step.validation_split for _, step in training_steps(spec)]
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
    for name, part, _ in each_output(data.objective):
        if part.task == "classification" and part.classes and part.labels_from == "caller":
            of = f" (output {name})" if name else ""
            if part.labels.min() == part.labels.max():
                warn(remark("single_class", of=of, number=part.labels.flat[0]))
            missing = part.classes - len(np.unique(part.labels[data.train]))
            if missing > 0:
                warn(remark("class_missing_in_training", of=of, count=missing, classes=part.classes))
            _remark_on_missing(data, part.labels, of, warn)
    _remark_on_duplicates(data, warn)


def _remark_on_missing(data: Data, labels: Array, of: str, warn: Warn) -> None:
    """Classes that the data set has and a split lacks; of training it is said against the model's."""
    known = np.unique(labels)
    for split, chosen, what in (
        ("validation", data.validation, "nothing is chosen by how they fare"),
        ("calibration", data.calibration, "ranges may be too narrow for them"),
        ("test", data.test, "what became of them was not measured"),
    ):
        missing = np.setdiff1d(known, labels[chosen]) if len(chosen) else known[:0]
        if len(missing):
            warn(
                remark(
                    "class_missing_in_split",
                    count=len(missing),
                    classes=len(known),
                    split=split,
                    of=of,
                    first=missing[0],
                    what=what,
                )
            )


def _remark_on_duplicates(data: Data, warn: Warn) -> None:
    seen = np.concatenate([data.train, data.validation])
    count = also_among(arrays_of(data.x), data.test, seen)
    if count:
        warn(remark("samples_across_splits", count=count, test=len(data.test), others=len(seen)))


def _fits(given: tuple[int, ...], wanted: Shape) -> bool:
    return len(given) == len(wanted) and all(
        size in (None, have) for size, have in zip(wanted, given, strict=True)
    )


def _text(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
