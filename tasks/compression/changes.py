"""What compression changed in the answers to the test split: output against original, sample by sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featherweight.report import ClassChange, Difference
from tasks.compression.evaluate import classes_of, decisions, metric_values
from tasks.compression.intervals import paired
from tasks.compression.objective import Objective

__all__ = ["Change", "calibration_error", "change"]

BINS = 15
MAX_CLASSES = 1000

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Change:
    """The fields of an OutputMeasure of the same names; None where there is nothing to say: of a regression
    no decisions, without labels no right and wrong."""

    difference: Difference | None = None
    flipped: float | None = None
    calibration_error: float | None = None
    by_class: list[ClassChange] | None = None


def change(objective: Objective, before: Array | None, after: Array, labels: Array, seed: int) -> Change:
    """Of the answers `after` against the original's, `before`, to the same samples (axis 0 of all three).
    Without `before` only what can be said of `after` alone."""
    labelled = objective.labels_from != "original"
    error = calibration_error(objective, after, labels) if labelled else None
    if before is None:
        return Change(calibration_error=error)
    return Change(
        difference=_difference(objective, before, after, labels, seed) if labelled else None,
        flipped=_flipped(objective, before, after),
        calibration_error=error,
        by_class=_by_class(objective, before, after, labels) if labelled else None,
    )


def calibration_error(objective: Objective, outputs: Array, labels: Array) -> float | None:
    """The expected calibration error (Guo et al. 2017, equation 3): how far confidence is from accuracy, on
    average over 15 bins of confidence weighted by their samples. None where nothing names one class."""
    if objective.task not in ("classification", "binary"):
        return None
    confidence = _confidence(objective, outputs.astype(np.float64)).ravel()
    hits = (decisions(objective, outputs) == classes_of(objective, labels)).ravel()
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, hits - confidence, BINS)
    return float(np.abs(gaps).sum() / hits.size)


def _confidence(objective: Objective, outputs: Array) -> Array:
    """The probability of the class decided for."""
    if objective.task == "binary":
        yes = 0.5 * (1 + np.tanh(0.5 * outputs)) if objective.from_logits else outputs
        return np.asarray(np.clip(np.maximum(yes, 1 - yes), 0, 1))
    highest = outputs.max(axis=-1)
    if not objective.from_logits:
        return np.asarray(np.clip(highest, 0, 1))
    return np.asarray(1 / np.exp(outputs - highest[..., None]).sum(axis=-1))


def _difference(objective: Objective, before: Array, after: Array, labels: Array, seed: int) -> Difference:
    metric = objective.metrics[0]
    ours, theirs = (_by_sample(metric, objective, outputs, labels) for outputs in (after, before))
    value, low, high = paired(theirs, ours, seed)
    return Difference(
        metric=objective.called(metric),
        value=value,
        low=low,
        high=high,
        n=len(ours),
        higher_is_better=metric.endswith("accuracy"),
    )


def _by_sample(metric: str, objective: Objective, outputs: Array, labels: Array) -> Array:
    values = metric_values(metric, objective, outputs, labels)
    return np.asarray(values.reshape(len(values), -1).mean(axis=1, dtype=np.float64))


def _flipped(objective: Objective, before: Array, after: Array) -> float | None:
    if objective.task == "regression":
        return None
    return float((decisions(objective, before) != decisions(objective, after)).mean())


def _by_class(objective: Objective, before: Array, after: Array, labels: Array) -> list[ClassChange] | None:
    if objective.task not in ("classification", "binary"):
        return None
    truth = classes_of(objective, labels)
    names, places, counts = np.unique(truth, return_inverse=True, return_counts=True)
    shares = [
        np.bincount(places.ravel(), (decisions(objective, outputs) == truth).ravel()) / counts
        for outputs in (before, after)
    ]
    changes = [
        ClassChange(
            label=int(name), n=int(n), before=float(theirs), after=float(ours), change=float(ours - theirs)
        )
        for name, n, theirs, ours in zip(names, counts, *shares, strict=True)
    ]
    return sorted(changes, key=lambda item: (item.change, item.label))[:MAX_CLASSES]
