from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from featherweight.spec import Finetune
from tasks.compression import CompressionError
from tasks.compression.facts import CompiledState, ModelFacts
from tasks.compression.objective import Objective, infer_objective

CLASSES = np.arange(30) % 3
ONE_HOT = np.eye(3)[CLASSES]
SEVERAL = ONE_HOT + np.roll(ONE_HOT, 1, axis=1)
YES_NO = np.arange(30) % 2
NUMBERS = np.linspace(-1, 1, 30)
SPARSE, BINARY, SQUARED = "sparse_categorical_crossentropy", "binary_crossentropy", "mean_squared_error"


def facts(outputs: tuple[int, ...], activation: str, compiled: CompiledState | None = None) -> ModelFacts:
    return ModelFacts(((4,),), (outputs,), activation, compiled or CompiledState())


def sources(objective: Objective) -> dict[str, str]:
    return {row.field: row.source for row in objective.inferred}


@pytest.mark.parametrize(
    ("outputs", "activation", "labels", "task", "loss", "from_logits", "metric"),
    [
        ((3,), "softmax", CLASSES, "classification", SPARSE, False, "accuracy"),
        ((3,), "linear", CLASSES, "classification", SPARSE, True, "accuracy"),
        ((3,), "linear", CLASSES[:, None], "classification", SPARSE, True, "accuracy"),
        ((3,), "softmax", ONE_HOT, "classification", SPARSE, False, "accuracy"),
        ((3,), "softmax", CLASSES.astype(float), "classification", SPARSE, False, "accuracy"),
        ((1,), "sigmoid", YES_NO, "binary", BINARY, False, "binary_accuracy"),
        ((1,), "linear", YES_NO, "binary", BINARY, True, "binary_accuracy"),
        ((1,), "linear", NUMBERS, "regression", SQUARED, False, SQUARED),
        ((3,), "sigmoid", SEVERAL, "multilabel", BINARY, False, "binary_accuracy"),
        ((3,), "linear", np.stack([NUMBERS] * 3, 1), "regression", SQUARED, False, SQUARED),
    ],
)  # fmt: skip
def test_objective_is_inferred_from_last_layer_and_labels(
    outputs: tuple[int, ...],
    activation: str,
    labels: Any,
    task: str,
    loss: str,
    from_logits: bool,
    metric: str,
) -> None:
    objective = infer_objective(facts(outputs, activation), labels, None)
    assert (objective.task, objective.loss, objective.from_logits) == (task, loss, from_logits)
    assert objective.metrics == (metric,)
    assert sources(objective)["loss"] == "last_layer_and_labels"


def test_one_hot_labels_become_class_numbers_and_it_is_said() -> None:
    objective = infer_objective(facts((3,), "softmax"), ONE_HOT, None)
    assert (objective.labels == CLASSES).all()
    assert {row.field: row.value for row in objective.inferred}["labels"] == "one_hot"


def test_spec_wins_over_compiled_model_and_that_over_inference() -> None:
    compiled = CompiledState(loss="mean_absolute_error", metrics=("mean_absolute_error",))
    model = facts((1,), "linear", compiled)
    step = Finetune(technique="finetune", loss="mean_squared_error")
    assert infer_objective(model, NUMBERS, step).loss == "mean_squared_error"
    objective = infer_objective(model, NUMBERS, None)
    assert objective.loss == "mean_absolute_error"
    assert sources(objective)["loss"] == sources(objective)["metrics"] == "compiled_model"


def test_compiled_from_logits_wins_over_the_activation() -> None:
    compiled = CompiledState(loss="categorical_crossentropy", from_logits=True)
    objective = infer_objective(facts((3,), "linear", compiled), CLASSES, None)
    assert objective.from_logits
    assert objective.loss == "sparse_categorical_crossentropy"


@pytest.mark.parametrize(
    ("outputs", "activation", "labels", "code", "hint"),
    [
        ((3,), "softmax", CLASSES + 1, "label_out_of_range", "subtract 1"),
        ((3,), "softmax", CLASSES - 1, "label_out_of_range", "belong together"),
        ((3,), "softmax", np.arange(30), "label_out_of_range", "belong together"),
        ((1,), "sigmoid", CLASSES, "label_out_of_range", None),
        ((3,), "softmax", np.zeros((30, 5)), "shape_mismatch", "0 to 2"),
        ((3,), "softmax", np.zeros((30, 2, 2)), "shape_mismatch", "0 to 2"),
        ((3,), "softmax", NUMBERS, "loss_not_inferable", "class numbers"),
        ((3,), "softmax", np.full((30, 3), 0.5), "loss_not_inferable", "class numbers"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    outputs: tuple[int, ...], activation: str, labels: Any, code: str, hint: str | None
) -> None:
    with pytest.raises(CompressionError) as caught:
        infer_objective(facts(outputs, activation), labels, None)
    assert caught.value.code == code
    assert hint is None or hint in (caught.value.hint or "")


def test_loss_and_metric_that_do_not_go_with_the_labels_are_refused() -> None:
    for step in (
        Finetune(technique="finetune", loss="binary_crossentropy"),
        Finetune(technique="finetune", metrics=("mean_squared_error",)),
    ):
        with pytest.raises(CompressionError, match="does not go with"):
            infer_objective(facts((3,), "softmax"), CLASSES, step)
