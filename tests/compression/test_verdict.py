"""Whether an output is worse goes by the paired difference, not by whether two intervals overlap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from featherweight.report import Variant
from tasks.compression.measures import changed, described, measured, outcomes
from tasks.compression.objective import Objective

N = 400
LABELS = np.zeros(N, np.int64)
HITS = Objective("classification", "sparse_categorical_crossentropy", False, ("accuracy",), 2, LABELS, ())
TRUTH = np.zeros((N, 1), np.float32)
ERRORS = Objective("regression", "mean_squared_error", False, ("mean_squared_error",), None, TRUTH, ())


def variants(objective: Objective, before: Any, after: Any) -> tuple[Variant, Variant]:
    """The original and an output that answer so to the test split."""
    files = [
        Variant(name=name, format="tflite", bytes=1, gzip_bytes=1, sha256="0" * 64)
        for name in ("original", "output")
    ]
    labels = objective.labels
    told = [
        described(
            objective,
            measured(objective, answers, labels, 0),
            {},
            changed(objective, reference, answers, labels, 0),
        )
        for reference, answers in ((None, before), (before, after))
    ]
    return tuple(file.model_copy(update=fields) for file, fields in zip(files, told, strict=True))  # type: ignore[return-value]


def answers(right: Any) -> Any:
    """Of a classifier that is right where `right` says."""
    return np.eye(2, dtype=np.float32)[np.where(right, 0, 1)]


def hits(kept: int, lost: int, gained: int) -> tuple[Any, Any]:
    place = np.arange(N)
    before = answers(place < kept + lost)
    return before, answers((place < kept) | ((place >= kept + lost) & (place < kept + lost + gained)))


@pytest.mark.parametrize(
    ("lost", "gained", "worse"),
    [(12, 0, True), (12, 11, False), (0, 12, False), (30, 8, True), (0, 0, False)],
)
def test_hits_lost_count_against_those_gained(lost: int, gained: int, worse: bool) -> None:
    original, output = variants(HITS, *hits(280, lost, gained))
    assert outcomes(original, output) == [worse]


def test_overlapping_intervals_hide_no_loss() -> None:
    original, output = variants(HITS, *hits(280, 12, 0))
    assert original.accuracy is not None
    assert output.accuracy is not None
    assert output.accuracy.high > original.accuracy.value > output.accuracy.value > original.accuracy.low
    assert outcomes(original, output) == [True]


@pytest.mark.parametrize(("factor", "worse"), [(1.02, True), (0.98, False), (1 + 1e-7, False), (1.0, False)])
def test_errors_count_the_other_way_round_and_rounding_does_not(factor: float, worse: bool) -> None:
    before = np.random.default_rng(0).normal(1, 0.5, (N, 1))
    assert outcomes(*variants(ERRORS, before, before * factor)) == [worse]


def test_without_labels_there_is_no_telling() -> None:
    original, output = variants(HITS, *hits(280, 12, 0))
    assert outcomes(original, output.model_copy(update={"difference": None})) == [None]
