"""Measures outputs: against the labels of the test split, and against the float network they came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featherweight.report import Measurement
from tasks.compression.errors import CompressionError
from tasks.compression.intervals import bootstrap, wilson
from tasks.compression.objective import Objective

__all__ = ["Likeness", "chance", "classes_of", "compare", "decisions", "measure", "metric_values"]

MIN_KAPPA = 0.1
MIN_COMPARED = 20

Array = npt.NDArray[Any]


def measure(objective: Objective, outputs: Array, labels: Array, seed: int) -> Measurement:
    """The objective's first metric of `outputs` with its 95 % interval over samples."""
    metric = objective.metrics[0]
    name = objective.called(metric)
    values = metric_values(metric, objective, outputs, labels)
    if metric.endswith("accuracy") and values.ndim == 1:
        hits, n = int(values.sum()), len(values)
        low, high = wilson(hits, n)
        return Measurement(metric=name, value=hits / n, low=low, high=high, n=n, method="wilson")
    # Several values a sample (pixels, labels) are not independent: the sample is what is resampled.
    means = values.reshape(len(values), -1).mean(axis=1, dtype=np.float64)
    low, high = bootstrap(means, seed)
    return Measurement(
        metric=name,
        value=float(means.mean()),
        low=low,
        high=high,
        n=len(means),
        method="bootstrap",
        higher_is_better=metric.endswith("accuracy"),
    )


def metric_values(metric: str, objective: Objective, outputs: Array, labels: Array) -> Array:
    """The metric of every sample, and of every place in it where it has several."""
    if metric == "mean_squared_error":
        return np.square(outputs.astype(np.float64) - labels)
    if metric == "mean_absolute_error":
        return np.abs(outputs.astype(np.float64) - labels)
    hits: Array = decisions(objective, outputs) == classes_of(objective, labels)
    return hits


def decisions(objective: Objective, outputs: Array) -> Array:
    """What the network decides: a class number, or yes and no where it answers such questions."""
    if objective.task == "classification":
        return np.asarray(outputs.argmax(axis=-1))
    chosen: Array = outputs > (0.0 if objective.from_logits else 0.5)
    return chosen[..., 0] if objective.task == "binary" and chosen.ndim > 1 else chosen


def chance(objective: Objective, labels: Array) -> float | None:
    """The accuracy of always naming the commonest class; None where that says nothing."""
    if objective.task not in ("classification", "binary"):
        return None
    _, counts = np.unique(classes_of(objective, labels), return_counts=True)
    return float(counts.max() / counts.sum())


@dataclass(frozen=True)
class Likeness:
    """`agreement` is the share of equal decisions, None where the network decides nothing."""

    max_abs_difference: float
    agreement: float | None


def compare(name: str, reference: Array, outputs: Array, objective: Objective | None) -> Likeness:
    """How like `outputs` are to the `reference`, the float network's for the same samples.

    Raises CompressionError verification_failed when they are not finite, or no more alike than by
    chance: Cohen's kappa of the decisions under 0.1 (Cohen 1960), or, of a regression, errors larger
    than the reference's own spread.
    """
    if reference.shape != outputs.shape:
        raise _failed(name, f"its output has the shape {outputs.shape[1:]} instead of {reference.shape[1:]}")
    if not np.isfinite(outputs).all():
        raise _failed(name, "its output holds NaN or infinity")
    difference = float(np.abs(reference.astype(np.float64) - outputs).max())
    if objective is None or objective.task == "regression":
        _check_spread(name, reference, outputs)
        return Likeness(difference, None)
    ours, theirs = decisions(objective, reference), decisions(objective, outputs)
    agreement = float((ours == theirs).mean())
    if ours.size >= MIN_COMPARED and _kappa(ours, theirs, agreement) < MIN_KAPPA:
        raise _failed(
            name, f"it decides like the float network in {agreement:.1%} of the samples, as by chance"
        )
    return Likeness(difference, agreement)


def _check_spread(name: str, reference: Array, outputs: Array) -> None:
    if len(reference) < MIN_COMPARED:
        return
    error = float(np.square(reference.astype(np.float64) - outputs).mean())
    spread = float(reference.astype(np.float64).var())
    if error > spread > 0:
        raise _failed(name, "its outputs differ from the float network's by more than those vary")


def _kappa(ours: Array, theirs: Array, agreement: float) -> float:
    values = np.union1d(ours, theirs)
    expected = float(sum((ours == value).mean() * (theirs == value).mean() for value in values))
    # Both always decide the same one thing: nothing can be told apart, and nothing is wrong.
    return 1.0 if expected >= 1.0 else (agreement - expected) / (1.0 - expected)


def classes_of(objective: Objective, labels: Array) -> Array:
    if objective.task == "binary" and labels.ndim > 1:
        return labels[..., 0] > 0.5
    return labels if objective.task == "classification" else labels > 0.5


def _failed(name: str, why: str) -> CompressionError:
    return CompressionError(
        "verification_failed",
        f"{name} does not do what the float network does: {why}",
        hint="try dynamic_int8 or float16, or more calibration samples like those the model will see",
    )
