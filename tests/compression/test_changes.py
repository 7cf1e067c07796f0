"""What compression changed, against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tasks.compression.changes import calibration_error, change
from tasks.compression.objective import Objective

LABELS = np.array([0, 0, 1, 1, 1, 2])
CLASSES = Objective("classification", "sparse_categorical_crossentropy", False, ("accuracy",), 3, LABELS, ())


def one_hot(*classes: int) -> np.ndarray:
    return np.eye(3, dtype=np.float32)[list(classes)]


def test_flips_and_classes_are_counted_the_worst_change_first() -> None:
    before, after = one_hot(0, 1, 1, 1, 0, 2), one_hot(0, 0, 1, 0, 0, 1)
    found = change(CLASSES, before, after, LABELS, seed=0)
    assert found.flipped == pytest.approx(3 / 6)
    assert found.by_class is not None
    rows = [(row.label, row.n, row.before, row.after) for row in found.by_class]
    assert rows == [
        (2, 1, 1.0, 0.0),
        (1, 3, pytest.approx(2 / 3), pytest.approx(1 / 3)),
        (0, 2, 0.5, 1.0),
    ]
    assert found.by_class[0].change == -1.0
    difference = found.difference
    assert difference is not None
    assert difference.value == pytest.approx(3 / 6 - 4 / 6)
    assert difference.low <= difference.value <= difference.high
    assert difference.n == 6
    assert difference.higher_is_better


def test_the_same_answers_have_not_changed() -> None:
    answers = one_hot(0, 1, 1, 1, 0, 2)
    found = change(CLASSES, answers, answers, LABELS, seed=0)
    assert found.flipped == 0.0
    assert found.difference is not None
    assert (found.difference.low, found.difference.value, found.difference.high) == (0.0, 0.0, 0.0)


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    # Two bins: four answers of 0.9 of which three are right, two of 0.6 of which one is.
    outputs = np.array(
        [
            [0.9, 0.1, 0],
            [0.9, 0.1, 0],
            [0.1, 0.9, 0],
            [0.9, 0.1, 0],
            [0.4, 0.6, 0],
            [0.6, 0.4, 0],
        ]
    )
    expected = 4 / 6 * abs(3 / 4 - 0.9) + 2 / 6 * abs(1 / 2 - 0.6)
    assert calibration_error(CLASSES, outputs, LABELS) == pytest.approx(expected)
    logits = replace(CLASSES, from_logits=True)
    # A logit is a logarithm of a probability, give or take a constant.
    assert calibration_error(logits, np.log(outputs + 1e-12) + 5, LABELS) == pytest.approx(expected, abs=1e-6)


def test_yes_or_no_is_calibrated_by_the_answer_given() -> None:
    labels = np.array([[1.0], [0.0]], dtype=np.float32)
    binary = Objective("binary", "binary_crossentropy", False, ("binary_accuracy",), 2, labels, ())
    assert calibration_error(binary, np.array([[0.8], [0.2]]), labels) == pytest.approx(0.2)
    logit = np.log(4.0)
    again = replace(binary, from_logits=True)
    assert calibration_error(again, np.array([[logit], [-logit]]), labels) == pytest.approx(0.2)


def test_a_regression_has_a_paired_difference_and_decides_nothing() -> None:
    labels = np.zeros((40, 1), dtype=np.float32)
    values = Objective("regression", "mean_squared_error", False, ("mean_squared_error",), None, labels, ())
    before, after = np.full((40, 1), 1.0), np.full((40, 1), 2.0)
    found = change(values, before, after, labels, seed=0)
    assert found.difference is not None
    assert found.difference.value == 3.0
    assert not found.difference.higher_is_better
    assert (found.flipped, found.by_class, found.calibration_error) == (None, None, None)


def test_without_labels_only_flips_are_said() -> None:
    found = change(
        replace(CLASSES, labels_from="original"),
        one_hot(0, 0, 1, 1, 1, 2),
        one_hot(1, 0, 1, 1, 1, 2),
        LABELS,
        0,
    )
    assert found.flipped == pytest.approx(1 / 6)
    assert (found.difference, found.by_class, found.calibration_error) == (None, None, None)
