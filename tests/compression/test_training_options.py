"""What each option of a training step promises, measured in the report and in the files."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest

from featherweight.report import Report, StepReport
from tasks.compression import CompressionError, compress
from tests.compression.networks import keras, save_model

Array = npt.NDArray[Any]
Run = Callable[..., tuple[Report, Any]]

PRUNE = {"technique": "prune", "schedule": {"type": "constant_sparsity", "target_sparsity": 0.5}}
IMAGE_INPUTS = {"flip_horizontal": True, "shift": 0.1, "rotate_degrees": 10, "zoom": 0.1}


def codes(report: Report) -> set[str]:
    return {warning.code for warning in report.warnings}


def finetune(**options: Any) -> dict[str, Any]:
    return {"technique": "finetune", "epochs": 3, "batch_size": 64, **options}


def rates(step: StepReport) -> list[float]:
    return [epoch.metrics["learning_rate"] for epoch in step.epochs]


@pytest.fixture
def run(cnn_file: Path, digit_file: Path, tmp_path: Path) -> Run:
    """Compress the digit network; the report and the delivered Keras model."""

    def run(*steps: dict[str, Any], model: Path = cnn_file, data: Path = digit_file) -> tuple[Report, Any]:
        spec = {"steps": list(steps), "outputs": ["keras"]}
        report = compress(model, spec, dataset=data, workdir=tmp_path / "w").report
        return report, keras().models.load_model(tmp_path / "w" / "out" / "model.keras", compile=False)

    return run


@pytest.fixture
def dense_file(tmp_path: Path) -> Path:
    layers = keras().layers
    keras().utils.set_random_seed(0)
    dense = [layers.InputLayer((8,)), layers.Dense(16, "relu"), layers.Dense(3, "softmax", name="out")]
    return save_model(keras().Sequential(dense), tmp_path / "dense.keras")


def imbalanced() -> tuple[Array, Array]:
    """Two classes that overlap, the second a tenth of all; a third that never occurs."""
    generator = np.random.default_rng(0)
    y = (np.arange(600) % 10 == 0).astype(np.int64)
    x = generator.normal(size=(600, 8)).astype(np.float32) + y[:, None] * 0.5
    return x.astype(np.float32), y


class TestLearningRate:
    def test_cosine_falls_to_its_final_factor(self, run: Run) -> None:
        schedule = {"type": "cosine", "final_factor": 0.1}
        report, _ = run(finetune(learning_rate=1e-2, learning_rate_schedule=schedule))
        steps = report.steps[0].details["optimiser_steps"]
        done = [(epoch + 1) * steps // 3 - 1 for epoch in range(3)]
        expected = [1e-2 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * t / steps))) for t in done]
        assert rates(report.steps[0]) == pytest.approx(expected, rel=1e-4)

    @pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd_momentum"])
    def test_steps_divide_the_rate_between_epochs(self, run: Run, optimizer: str) -> None:
        schedule = {"type": "step", "every_epochs": 1, "factor": 0.5}
        report, _ = run(finetune(optimizer=optimizer, learning_rate_schedule=schedule))
        assert rates(report.steps[0]) == pytest.approx([1e-3, 5e-4, 2.5e-4])

    def test_warm_up_rises_to_the_full_rate_and_is_said_when_it_never_gets_there(self, run: Run) -> None:
        report, _ = run(finetune(learning_rate_schedule={"type": "constant", "warmup_steps": 46}))
        assert rates(report.steps[0]) == pytest.approx([1e-3 * 23 / 46, 1e-3, 1e-3])
        assert "warm_up_not_finished" not in codes(report)
        report, _ = run(finetune(learning_rate_schedule={"type": "constant", "warmup_steps": 690}))
        assert rates(report.steps[0])[-1] == pytest.approx(1e-4)
        assert "warm_up_not_finished" in codes(report)

    def test_the_optimiser_moves_by_the_scheduled_rate(self, run: Run, cnn_file: Path) -> None:
        schedule = {"type": "constant", "warmup_steps": 1_000_000}
        _, slow = run(finetune(epochs=1, optimizer="sgd", learning_rate_schedule=schedule))
        before = keras().models.load_model(cnn_file, compile=False)
        moved = np.abs(slow.get_layer("logits").kernel - before.get_layer("logits").kernel).max()
        assert 0 < moved < 1e-6

    def test_rate_that_never_falls_is_said(self, run: Run) -> None:
        report, _ = run(finetune(learning_rate_schedule={"type": "step", "every_epochs": 3}))
        assert "rate_never_falls" in codes(report)
        assert rates(report.steps[0]) == pytest.approx([1e-3] * 3)


class TestStopping:
    UNSTEADY: ClassVar = {"learning_rate": 3e-2}

    def test_early_stopping_ends_the_training(self, run: Run) -> None:
        stop = {"patience": 2, "min_delta": 100.0}
        report, _ = run(finetune(epochs=9, early_stopping=stop))
        step = report.steps[0]
        assert len(step.epochs) == 3  # the first counts as better than nothing
        assert step.details["stopped_after_epoch"] == 3
        assert step.details["optimiser_steps"] == 3 * 23

    def test_early_stopping_can_watch_the_metric(self, run: Run) -> None:
        stop = {"patience": 1, "min_delta": 0.9, "monitor": "val_metric"}
        report, _ = run(finetune(epochs=9, early_stopping=stop))
        assert len(report.steps[0].epochs) == 2

    def test_keep_best_delivers_the_weights_of_the_best_epoch(self, run: Run, digit_file: Path) -> None:
        step = finetune(epochs=4, keep_best=True, **self.UNSTEADY)
        report, best = run(step)
        losses = [epoch.metrics["val_loss"] for epoch in report.steps[0].epochs]
        chosen = report.steps[0].details["best_epoch"]
        assert chosen == int(np.argmin(losses)) + 1
        # The same seed trained for as many epochs gets to the same weights.
        _, same = run(finetune(epochs=chosen, **self.UNSTEADY))
        for left, right in zip(best.get_weights(), same.get_weights(), strict=True):
            np.testing.assert_allclose(left, right, atol=1e-6)

    def test_keep_best_chooses_among_epochs_at_the_final_sparsity(self, run: Run) -> None:
        schedule = {"type": "polynomial_decay", "final_sparsity": 0.9, "end_step": 46}
        prune = {**PRUNE, "schedule": schedule, "layers": {"include": ["logits"]}}
        report, model = run(prune, finetune(epochs=4, keep_best=True, **self.UNSTEADY))
        assert report.steps[1].details["best_epoch"] >= 2
        kernel = model.get_layer("logits").kernel.numpy()
        assert np.count_nonzero(kernel) == round(kernel.size * 0.1)

    def test_schedule_that_leaves_no_choice_is_said(self, run: Run) -> None:
        prune = {"technique": "prune", "schedule": {"type": "polynomial_decay"}}
        report, _ = run(prune, finetune(keep_best=True))
        assert report.steps[1].details["best_epoch"] == 3
        assert "best_among_few" in codes(report)

    def test_pruned_zeros_survive_early_stopping(self, run: Run) -> None:
        stop = {"patience": 1, "min_delta": 100.0}
        report, model = run(PRUNE, finetune(epochs=9, early_stopping=stop))
        assert len(report.steps[1].epochs) == 2
        kernel = model.get_layer("logits").kernel.numpy()
        assert np.count_nonzero(kernel) == kernel.size / 2


class TestBatchNorm:
    def statistics(self, model: Any) -> list[Array]:
        return [weight.numpy() for weight in model.get_layer("norm").weights]

    @pytest.mark.parametrize("steps", [(), (PRUNE,)], ids=["plain", "pruned"])
    def test_frozen_batch_norm_stays_as_it_came(
        self, run: Run, cnn_file: Path, steps: tuple[dict[str, Any], ...]
    ) -> None:
        before = self.statistics(keras().models.load_model(cnn_file, compile=False))
        _, frozen = run(*steps, finetune(epochs=1, freeze_batch_norm=True))
        assert all(np.array_equal(a, b) for a, b in zip(before, self.statistics(frozen), strict=True))
        assert frozen.get_layer("norm").trainable
        _, free = run(*steps, finetune(epochs=1))
        assert not any(np.array_equal(a, b) for a, b in zip(before, self.statistics(free), strict=True))

    def test_model_without_any_is_told(self, run: Run, dense_file: Path, save_data: Any) -> None:
        x, y = imbalanced()
        report, _ = run(finetune(freeze_batch_norm=True), model=dense_file, data=save_data(x=x, y=y))
        assert "no_batch_norm" in codes(report)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_clip_norm_bounds_the_update(run: Run, cnn_file: Path, optimizer: str) -> None:
    # One step over all samples, of an optimiser that moves by the gradient itself.
    step = finetune(epochs=1, batch_size=2048, optimizer=optimizer, learning_rate=1.0, freeze_batch_norm=True)
    before = keras().models.load_model(cnn_file, compile=False).get_weights()
    if optimizer == "adamw":  # moves by the rate whatever the gradient's size, until that drowns in epsilon
        _, free = run({**step, "learning_rate": 1e-3})
        _, clipped = run({**step, "learning_rate": 1e-3, "gradient_clip_norm": 1e-6})
        assert distance(clipped.get_weights(), before) < 0.95 * distance(free.get_weights(), before)
        return
    _, clipped = run({**step, "gradient_clip_norm": 1e-3})
    assert distance(clipped.get_weights(), before) == pytest.approx(1e-3, rel=1e-2)
    _, free = run(step)
    assert distance(free.get_weights(), before) > 1e-2


def distance(left: list[Array], right: list[Array]) -> float:
    return math.sqrt(sum(float(np.square(a - b).sum()) for a, b in zip(left, right, strict=True)))


class TestClassWeights:
    def recall(self, model: Any, x: Array, y: Array) -> float:
        return float((model(x).numpy().argmax(1) == 1)[y == 1].mean())

    @pytest.mark.parametrize("weights", ["balanced", {"1": 9.0}])
    def test_rare_class_is_found_more_often(
        self, run: Run, dense_file: Path, save_data: Callable[..., Path], weights: Any
    ) -> None:
        x, y = imbalanced()
        data = save_data(x=x, y=y)
        step = finetune(epochs=15, learning_rate=3e-3)
        _, plain = run(step, model=dense_file, data=data)
        _, weighted = run({**step, "class_weights": weights}, model=dense_file, data=data)
        assert self.recall(weighted, x, y) > self.recall(plain, x, y) + 0.3

    def test_balanced_weights_are_those_of_the_formula(self) -> None:
        from tasks.compression.objective import infer_objective
        from tasks.compression.options import class_weights
        from tests.compression.test_objective import facts

        labels = np.array([0] * 6 + [1] * 2)
        objective = infer_objective(facts((3,), "softmax"), labels, None)
        from featherweight.spec import Finetune

        step = Finetune(technique="finetune", class_weights="balanced")
        weights = class_weights(step, objective, np.arange(8))
        assert weights.tolist() == pytest.approx([8 / 12, 2.0, 1.0])

    def test_they_are_refused_where_there_are_no_classes(
        self, run: Run, dense_file: Path, save_data: Callable[..., Path]
    ) -> None:
        x, _ = imbalanced()
        with pytest.raises(CompressionError) as caught:
            run(
                finetune(class_weights="balanced", loss="mean_squared_error"),
                model=dense_file,
                data=save_data(x=x, y=x[:, :3]),
            )
        assert (caught.value.code, caught.value.pointer) == ("invalid_request", "/steps/0/class_weights")

    def test_label_the_model_does_not_have_is_refused(self, run: Run) -> None:
        with pytest.raises(CompressionError) as caught:
            run(finetune(class_weights={"12": 2.0}))
        assert caught.value.pointer == "/steps/0/class_weights/12"


class TestAugmentation:
    def changed(self, images: Array, **options: Any) -> Array:
        from featherweight.spec import Augmentation
        from tasks.compression.backends.tensorflow._framework import tf
        from tasks.compression.backends.tensorflow.augment import augmenter

        augment = augmenter(Augmentation(**options), seed=3)
        changed: Array = augment(tf.constant(images), tf.constant(5, tf.int64)).numpy()
        assert changed.shape == images.shape
        assert changed.dtype == images.dtype
        return changed

    IMAGES = np.random.default_rng(0).random((64, 12, 16, 3), dtype=np.float32)

    def test_flip_mirrors_about_half_of_the_images(self) -> None:
        changed = self.changed(self.IMAGES, flip_horizontal=True)
        same = (changed == self.IMAGES).all(axis=(1, 2, 3))
        mirrored = (changed == self.IMAGES[:, :, ::-1]).all(axis=(1, 2, 3))
        assert (same ^ mirrored).all()
        assert 16 < mirrored.sum() < 48

    def test_shift_moves_whole_pixels_each_image_its_own_way(self) -> None:
        def inner(image: Array, down: int, right: int) -> Array:
            return image[4 + down : 8 + down, 5 + right : 11 + right]

        changed = self.changed(self.IMAGES, shift=0.25)
        moves = []
        for before, after in zip(self.IMAGES, changed, strict=True):
            found = [
                (down, right)
                for down in range(-3, 4)
                for right in range(-4, 5)
                if np.allclose(inner(after, 0, 0), inner(before, down, right), atol=1e-5)
            ]
            assert len(found) == 1
            moves += found
        assert len(set(moves)) > 20
        assert {down for down, _ in moves} == set(range(-3, 4))

    def test_rotation_keeps_the_centre_and_zoom_the_scale(self) -> None:
        wedge = np.zeros((32, 21, 21), np.float32)
        wedge[:, 10, 10:] = 1.0  # a hand pointing right
        turned = self.changed(wedge, rotate_degrees=45)
        np.testing.assert_allclose(turned[:, 10, 10], 1.0, atol=1e-5)
        angles = [math.degrees(math.atan2(*self.centre(image))) for image in turned]
        assert max(angles) > 30
        assert min(angles) < -30
        assert max(map(abs, angles)) < 46
        disc = ((np.indices((21, 21)) - 10) ** 2).sum(axis=0) < 25
        areas = self.changed(np.repeat(disc[None].astype(np.float32), 32, 0), zoom=0.3).sum(axis=(1, 2))
        assert areas.max() > 1.4 * disc.sum()
        assert areas.min() < 0.65 * disc.sum()

    def centre(self, image: Array) -> tuple[float, float]:
        rows, columns = np.indices(image.shape) - 10
        return float((rows * image).sum()), float((columns * image).sum())

    def test_seed_and_number_decide(self) -> None:
        assert (self.changed(self.IMAGES, **IMAGE_INPUTS) == self.changed(self.IMAGES, **IMAGE_INPUTS)).all()

    def test_byte_images_stay_bytes(self) -> None:
        self.changed((self.IMAGES[..., 0] * 255).astype(np.uint8), **IMAGE_INPUTS)

    def test_training_with_it_differs_and_repeats(self, run: Run) -> None:
        step = finetune(epochs=1, augmentation={"shift": 0.1, "rotate_degrees": 10})
        report, first = run(step)
        _, plain = run(finetune(epochs=1))
        assert distance(first.get_weights(), plain.get_weights()) > 1e-3
        assert report.outputs[0].accuracy is not None
        assert report.outputs[0].accuracy.value > 0.8

    def test_empty_one_is_said(self, run: Run) -> None:
        report, _ = run(finetune(epochs=1, augmentation={}))
        assert "augmentation_empty" in codes(report)

    def test_samples_that_are_no_images_are_refused(
        self, run: Run, dense_file: Path, save_data: Callable[..., Path]
    ) -> None:
        x, y = imbalanced()
        with pytest.raises(CompressionError) as caught:
            run(finetune(augmentation={"shift": 0.1}), model=dense_file, data=save_data(x=x, y=y))
        assert (caught.value.code, caught.value.pointer) == ("invalid_request", "/steps/0/augmentation")


class TestTasks:
    def network(self, tmp_path: Path, outputs: int, activation: str) -> Path:
        layers = keras().layers
        keras().utils.set_random_seed(1)
        dense = [layers.InputLayer((8,)), layers.Dense(16, "relu"), layers.Dense(outputs, activation)]
        return save_model(keras().Sequential(dense), tmp_path / "m.keras")

    X = np.random.default_rng(0).random((600, 8), dtype=np.float32)

    def test_multilabel(self, run: Run, tmp_path: Path, save_data: Callable[..., Path]) -> None:
        labels = (self.X[:, :3] > 0.5).astype(np.int64)
        step = finetune(epochs=20, learning_rate=1e-2)
        model = self.network(tmp_path, 3, "sigmoid")
        report, _ = run(step, model=model, data=save_data(x=self.X, y=labels))
        assert report.spec["steps"][0]["loss"] == "binary_crossentropy"
        assert report.outputs[0].accuracy is not None
        assert report.outputs[0].accuracy.value > 0.85

    def test_regression(self, run: Run, tmp_path: Path, save_data: Callable[..., Path]) -> None:
        model = self.network(tmp_path, 1, "linear")
        step = finetune(epochs=20, learning_rate=1e-2)
        report, _ = run(step, model=model, data=save_data(x=self.X, y=self.X.sum(1) - 4))
        assert report.outputs[0].accuracy is not None
        assert report.outputs[0].accuracy.value < 0.1

    @pytest.mark.parametrize("activation", ["linear", "sigmoid"])
    def test_autoencoder_needs_no_labels(
        self, run: Run, tmp_path: Path, save_data: Callable[..., Path], activation: str
    ) -> None:
        model = self.network(tmp_path, 8, activation)
        report, _ = run(finetune(epochs=20, learning_rate=1e-2), model=model, data=save_data(x=self.X))
        assert report.spec["steps"][0]["loss"] == "mean_squared_error"
        assert {row.field: row.value for row in report.inferred}["labels"] == "inputs"
        before, after = report.original.accuracy, report.outputs[0].accuracy
        assert before is not None
        assert after is not None
        assert after.metric == "mean_squared_error"
        assert after.value < 0.5 * before.value
        assert "no_labels" not in codes(report)

    def test_autoencoder_of_augmented_images_learns_the_augmented_images(
        self, run: Run, tmp_path: Path, digit_arrays: dict[str, Array], save_data: Callable[..., Path]
    ) -> None:
        layers = keras().layers
        keras().utils.set_random_seed(1)
        parts = [layers.InputLayer((28, 28, 1)), layers.Conv2D(4, 3, padding="same", activation="relu")]
        network = keras().Sequential([*parts, layers.Conv2D(1, 3, padding="same", activation="sigmoid")])
        network.compile("adam", "binary_crossentropy")
        path = save_model(network, tmp_path / "m.keras")
        step = finetune(epochs=8, learning_rate=2e-2, batch_size=16, augmentation={"shift": 0.2})
        report, _ = run(step, model=path, data=save_data(x=digit_arrays["x"][:600]))
        assert report.spec["steps"][0]["loss"] == "binary_crossentropy"
        assert report.outputs[0].accuracy is not None
        # Learned against images that had not moved, it would be no better than their mean.
        assert report.outputs[0].accuracy.value < 0.5 * float(digit_arrays["x"].var())


def test_training_that_diverges_leaves_the_last_good_weights(tmp_path: Path) -> None:
    from featherweight.spec import CompressionSpec
    from tasks.compression.backends.tensorflow import backend
    from tasks.compression.backends.tensorflow.finetune import finetune as train
    from tests.compression.training import context_of

    layers = keras().layers
    linear = keras().Sequential([layers.InputLayer((8,)), layers.Dense(8), layers.Dense(3)])
    path = save_model(linear, tmp_path / "linear.keras")
    network = backend.load(path, tmp_path, lambda warning: None).network
    before = network.model.get_weights()
    step = {"technique": "finetune", "optimizer": "sgd", "learning_rate": 10.0, "epochs": 5}
    spec = CompressionSpec.model_validate({"steps": [{**step, "batch_size": 16}]})
    x = 10 * np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    with pytest.raises(CompressionError) as caught:
        train(network, spec.steps[0], context_of(spec, path, x, x[:, :3]))
    assert caught.value.code == "training_diverged"
    after = network.model.get_weights()
    assert all(np.array_equal(left, right) for left, right in zip(before, after, strict=True))
