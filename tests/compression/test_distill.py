"""Distillation: towards the uploaded model's outputs, with labels, with few, and without any."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from featherweight.report import Report
from tasks.compression import CompressionError, compress
from tests.compression.networks import keras, save_model

Array = npt.NDArray[Any]
Run = Callable[..., tuple[Report, Any]]

HARD = {
    "technique": "prune",
    "schedule": {"type": "constant_sparsity", "target_sparsity": 0.95},
    "layers": {"include": ["logits"]},
}


def distill(**options: Any) -> dict[str, Any]:
    return {"technique": "distill", "epochs": 2, "batch_size": 64, "learning_rate": 3e-3, **options}


@pytest.fixture
def run(cnn_file: Path, digit_file: Path, tmp_path: Path) -> Run:
    def run(
        *steps: dict[str, Any], model: Path = cnn_file, data: Path | None = digit_file
    ) -> tuple[Report, Any]:
        spec = {"steps": list(steps), "outputs": ["keras"]}
        report = compress(model, spec, dataset=data, workdir=tmp_path / "w").report
        return report, keras().models.load_model(tmp_path / "w" / "out" / "model.keras", compile=False)

    return run


@pytest.fixture
def unlabelled(digit_arrays: dict[str, Array], save_data: Callable[..., Path]) -> Path:
    return save_data(x=digit_arrays["x"])


def alike(cnn_file: Path, model: Any, x: Array) -> float:
    """The share of samples the network decides as the uploaded one does."""
    teacher = keras().models.load_model(cnn_file, compile=False)
    return float((teacher(x).numpy().argmax(1) == model(x).numpy().argmax(1)).mean())


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_pruned_student_comes_back_to_its_teacher(
    run: Run, cnn_file: Path, digit_arrays: dict[str, Array], weight: float
) -> None:
    _, cut = run(HARD)
    report, student = run(HARD, distill(weight=weight))
    x = digit_arrays["x"]
    assert alike(cnn_file, student, x) > alike(cnn_file, cut, x) + 0.2
    kernel = student.get_layer("logits").kernel.numpy()
    assert np.count_nonzero(kernel) == round(kernel.size * 0.05)
    losses = [epoch.metrics["val_loss"] for epoch in report.steps[1].epochs]
    assert losses[1] < losses[0]
    assert report.steps[1].details["teacher"] == "the uploaded model"


def test_labels_are_not_needed_with_weight_1(
    run: Run, unlabelled: Path, cnn_file: Path, digit_arrays: dict[str, Array]
) -> None:
    report, student = run(HARD, distill(weight=1.0), data=unlabelled)
    measured = report.outputs[0].accuracy
    assert report.original.accuracy is None
    assert measured is not None
    assert measured.metric == "agreement_with_original"
    assert measured.n == 400
    assert measured.value == pytest.approx(alike(cnn_file, student, digit_arrays["x"]), abs=0.06)
    assert measured.value > 0.6
    assert report.verdict == "smaller_unverified"
    assert "no_labels" in {warning.code for warning in report.warnings}
    assert {row.field: row.value for row in report.inferred}["labels"] == "original"
    assert "val_agreement_with_original" in report.steps[1].epochs[-1].metrics


def test_labels_make_no_difference_with_weight_1(run: Run, save_data: Callable[..., Path]) -> None:
    from tests.compression.networks import digits

    x, y = digits()
    split = {"x_train": x[:1500], "x_test": x[1500:]}
    none = {**distill(weight=1.0), "validation_split": 0}
    _, unlabelled = run(none, data=save_data(**split))
    _, wrong = run(none, data=save_data(**split, y_train=(y[:1500] + 1) % 10, y_test=y[1500:]))
    for left, right in zip(unlabelled.get_weights(), wrong.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)


def test_labels_are_needed_with_less_weight_and_for_finetuning(run: Run, unlabelled: Path) -> None:
    for step in (distill(weight=0.9), {"technique": "finetune"}):
        with pytest.raises(CompressionError) as caught:
            run(step, data=unlabelled)
        assert caught.value.code == "array_missing"
        assert "weight 1" in (caught.value.hint or "")


def test_class_weights_need_labels(run: Run, unlabelled: Path) -> None:
    with pytest.raises(CompressionError) as caught:
        run(distill(weight=1.0, class_weights="balanced"), data=unlabelled)
    assert caught.value.pointer == "/steps/0/class_weights"


def test_data_set_is_needed(run: Run) -> None:
    with pytest.raises(CompressionError) as caught:
        run(distill(weight=1.0), data=None)
    assert (caught.value.code, caught.value.pointer) == ("dataset_required", "/steps/0")


def test_int8_can_be_calibrated_without_labels(cnn_file: Path, unlabelled: Path, tmp_path: Path) -> None:
    spec = {"steps": [{"technique": "quantize", "scheme": "full_int8"}]}
    report = compress(cnn_file, spec, dataset=unlabelled, workdir=tmp_path / "w").report
    assert report.outputs[0].accuracy is not None
    assert report.outputs[0].accuracy.metric == "agreement_with_original"
    assert report.outputs[0].accuracy.value > 0.95


def test_features_come_closer_to_the_teachers(
    run: Run, cnn_file: Path, digit_arrays: dict[str, Array]
) -> None:
    x = digit_arrays["x"][:200]

    def features(model: Any) -> Array:
        answers: Array = keras().Model(model.inputs, model.get_layer("depthwise").output)(x).numpy()
        return answers

    prune = {"technique": "prune", "layers": {"include": ["conv"]}}
    theirs = features(keras().models.load_model(cnn_file, compile=False))
    # Moving averages lag behind in so short a training, and would blur what is compared.
    step = distill(epochs=4, freeze_batch_norm=True)
    _, plain = run(prune, step)
    report, matched = run(prune, {**step, "features": ["depth*"], "feature_weight": 100.0})
    assert report.steps[1].details["features"] == ["depthwise"]
    assert np.square(features(matched) - theirs).mean() < 0.7 * np.square(features(plain) - theirs).mean()


@pytest.mark.parametrize(
    ("pattern", "code"), [("none_such", "layer_not_found"), ("inner/*", "layer_not_supported")]
)
def test_features_that_cannot_be_matched_are_refused_at_their_place(
    run: Run, tmp_path: Path, save_data: Callable[..., Path], pattern: str, code: str
) -> None:
    layers = keras().layers
    inner = keras().Sequential([layers.InputLayer((4,)), layers.Dense(3, name="deep")], name="inner")
    outer = keras().Sequential([layers.InputLayer((4,)), inner, layers.Dense(2, name="out")])
    path = save_model(outer, tmp_path / "m.keras")
    data = save_data(x=np.zeros((50, 4), np.float32), y=np.arange(50) % 2)
    with pytest.raises(CompressionError) as caught:
        run(distill(features=["out", pattern]), model=path, data=data)
    assert (caught.value.code, caught.value.pointer) == (code, "/steps/0/features/1")


@pytest.mark.parametrize("augmented", [False, True])
def test_it_combines_with_the_options_of_training(run: Run, augmented: bool) -> None:
    options: dict[str, Any] = {"class_weights": "balanced", "freeze_batch_norm": True, "keep_best": True}
    if augmented:
        options |= {"augmentation": {"shift": 0.05, "flip_horizontal": True}, "features": ["depthwise"]}
    report, _ = run(HARD, distill(**options, early_stopping={"patience": 2}, gradient_clip_norm=1.0))
    assert report.outputs[0].accuracy is not None
    assert report.outputs[0].accuracy.value > 0.5


def test_steps_run_in_groups_too(run: Run) -> None:
    report, student = run(HARD, distill(batch_size=4, epochs=2))
    assert report.steps[1].details["steps_per_execution"] > 1
    kernel = student.get_layer("logits").kernel.numpy()
    assert np.count_nonzero(kernel) == round(kernel.size * 0.05)


@pytest.mark.parametrize(("outputs", "activation"), [(1, "linear"), (1, "sigmoid"), (3, "sigmoid")])
def test_values_and_yes_or_no_are_distilled_too(
    run: Run, tmp_path: Path, save_data: Callable[..., Path], outputs: int, activation: str
) -> None:
    layers = keras().layers
    keras().utils.set_random_seed(2)
    last = layers.Dense(outputs, activation, kernel_initializer="glorot_normal")
    network = keras().Sequential([layers.InputLayer((6,)), layers.Dense(32, "relu"), last])
    if activation == "linear":
        network.compile("adam", "mean_squared_error")
    path = save_model(network, tmp_path / "m.keras")
    data = save_data(x=np.random.default_rng(0).normal(size=(800, 6)).astype(np.float32))
    prune = {"technique": "prune", "schedule": {"type": "constant_sparsity", "target_sparsity": 0.5}}
    teacher = keras().models.load_model(path, compile=False)
    with np.load(data) as arrays:
        x = arrays["x"]

    def gap(model: Any) -> float:
        return float(np.abs(model(x) - teacher(x)).mean())

    _, cut = run(prune, model=path, data=data)
    report, student = run(prune, distill(weight=1.0, epochs=10, learning_rate=1e-2), model=path, data=data)
    assert gap(student) < 0.7 * gap(cut)
    measured = report.outputs[0].accuracy
    assert measured is not None
    assert measured.metric == (
        "mean_squared_error_from_original" if activation == "linear" else "agreement_with_original"
    )


def test_outputs_nobody_can_name_are_refused(
    run: Run, tmp_path: Path, save_data: Callable[..., Path]
) -> None:
    layers = keras().layers
    path = save_model(keras().Sequential([layers.InputLayer((4,)), layers.Dense(3)]), tmp_path / "m.keras")
    with pytest.raises(CompressionError) as caught:
        run(distill(weight=1.0), model=path, data=save_data(x=np.zeros((50, 4), np.float32)))
    assert caught.value.code == "loss_not_inferable"


class TestDivergence:
    """Against the formulas, written out."""

    TEACHER = np.array([[2.0, -1.0, 0.5], [0.1, 0.2, -3.0]])
    STUDENT = np.array([[1.0, 0.0, 0.0], [-1.0, 2.0, 0.3]])

    def value(self, activation: str, labels: Array, teacher: Array, student: Array, t: float) -> Array:
        from tasks.compression.backends.tensorflow.teaching import divergence
        from tasks.compression.objective import infer_objective
        from tests.compression.test_objective import facts

        objective = infer_objective(facts((3,), activation), labels, None)
        return np.asarray(divergence(objective, t, np.float32(teacher), np.float32(student)))

    @pytest.mark.parametrize("temperature", [1.0, 4.0])
    @pytest.mark.parametrize("activation", ["linear", "softmax"])
    def test_of_classes(self, temperature: float, activation: str) -> None:
        def softmax(z: Array) -> Array:
            shares: Array = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
            return shares

        p, q = softmax(self.TEACHER / temperature), softmax(self.STUDENT / temperature)
        expected = temperature**2 * (p * np.log(p / q)).sum(axis=1)
        outputs = (self.TEACHER, self.STUDENT)
        if activation == "softmax":
            outputs = (softmax(self.TEACHER), softmax(self.STUDENT))
        found = self.value(activation, np.array([0, 1, 2]), *outputs, temperature)
        np.testing.assert_allclose(found, expected, rtol=1e-4)

    def test_of_several_yes_and_no(self) -> None:
        labels = np.array([[1, 1, 0], [0, 1, 1]])
        p, q = (1 / (1 + np.exp(-z)) for z in (self.TEACHER, self.STUDENT))
        half_p, half_q = (1 / (1 + np.exp(-z / 2)) for z in (self.TEACHER, self.STUDENT))
        each = half_p * np.log(half_p / half_q) + (1 - half_p) * np.log((1 - half_p) / (1 - half_q))
        found = self.value("sigmoid", labels, p, q, 2.0)
        np.testing.assert_allclose(found, 4 * each.mean(axis=1), rtol=1e-4)

    def test_of_values(self) -> None:
        found = self.value("linear", self.TEACHER, self.TEACHER, self.STUDENT, 4.0)
        np.testing.assert_allclose(found, np.square(self.TEACHER - self.STUDENT).mean(axis=1), rtol=1e-5)
        assert not math.isnan(float(found.sum()))
