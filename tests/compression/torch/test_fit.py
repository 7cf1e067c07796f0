"""What each option of a training step promises of a PyTorch network."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from tasks.compression import CompressionError
from tasks.compression.backends.torch import finetune as module
from tasks.compression.backends.torch.training_parts import TrainingPart
from tasks.compression.context import Context
from tests.compression.networks import digits
from tests.compression.torch.trainable import (
    Array,
    DigitNet,
    context_of,
    finetune,
    network_of,
    predict,
    tensors,
)

SHAPE = (1, 28, 28)
Trained = tuple[Any, Context]
Train = Callable[..., Trained]


@pytest.fixture(scope="module")
def images() -> dict[str, Array]:
    x, y = digits()
    return {"x": x[:700, None], "y": y[:700]}


@pytest.fixture
def train(images: dict[str, Array], tmp_path: Path) -> Train:
    """Fine-tune a digit network, always the same one; the trained network and the context."""

    def train(step: dict[str, Any], **changed: Any) -> Trained:
        torch.manual_seed(0)
        network = network_of(DigitNet(), SHAPE)
        asked, context = context_of(network, step, tmp_path, **{**images, **changed})
        return module.finetune(network, asked, context), context

    return train


def codes(context: Context) -> set[str]:
    return {warning.code for warning in context.record.warnings}


def rates(context: Context) -> list[float]:
    return [epoch.metrics["learning_rate"] for epoch in context.record.epochs]


def distance(left: dict[str, Array], right: dict[str, Array]) -> float:
    return math.sqrt(sum(float(np.square(left[name] - right[name]).sum()) for name in left))


def untrained() -> dict[str, Array]:
    torch.manual_seed(0)
    return tensors(network_of(DigitNet(), SHAPE))


def same(left: dict[str, Array], right: dict[str, Array]) -> bool:
    return all(left[name].tobytes() == right[name].tobytes() for name in left)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "nadam", "rmsprop", "sgd", "sgd_momentum"])
def test_it_learns_and_says_what_it_did(train: Train, optimizer: str) -> None:
    rate = 1e-2 if optimizer.startswith("sgd") else 3e-3
    network, context = train(finetune(epochs=4, optimizer=optimizer, learning_rate=rate))
    record = context.record
    data = context.training_data
    found = predict(network, data.x[data.test]).argmax(axis=1) == data.objectives[0].labels[data.test]
    assert found.mean() > 0.4
    assert record.details == {
        "optimiser_steps": 4 * math.ceil(len(data.train) / 64),
        "loss": "sparse_categorical_crossentropy",
    }
    assert [epoch.epoch for epoch in record.epochs] == [1, 2, 3, 4]
    assert all(epoch.seconds > 0 for epoch in record.epochs)
    assert set(record.epochs[0].metrics) == {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"}
    assert record.epochs[-1].metrics["loss"] < record.epochs[0].metrics["loss"]
    assert not record.warnings


def test_metrics_of_an_epoch_are_those_of_its_samples(train: Train, images: dict[str, Array]) -> None:
    """Nothing moves at so low a rate: the epoch's numbers are those of the network as it is."""
    step = finetune(epochs=1, learning_rate=1e-12, freeze_batch_norm=True, batch_size=50)
    network, context = train(step)
    data = context.training_data
    # Dropout draws: only the validation split is told without it.
    labels = images["y"][data.validation]
    logits = predict(network, data.x[data.validation]).astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    metrics = context.record.epochs[0].metrics
    assert metrics["val_loss"] == pytest.approx(-np.log(shares[np.arange(len(labels)), labels]).mean(), 1e-5)
    assert metrics["val_accuracy"] == pytest.approx((logits.argmax(axis=1) == labels).mean())


def test_the_network_is_left_as_it_is_used(train: Train) -> None:
    network, _ = train(finetune(epochs=1))
    assert not any(layer.training for layer in network.model.modules())
    assert all(value.grad is None for value in network.model.parameters())
    assert all(value.requires_grad for value in network.model.parameters())


def test_the_seed_decides_everything(train: Train) -> None:
    first, _ = train(finetune(epochs=1, augmentation={"shift": 0.1}))
    torch.rand(100)
    again, _ = train(finetune(epochs=1, augmentation={"shift": 0.1}))
    other, _ = train(finetune(epochs=1, augmentation={"shift": 0.1}, seed=8))
    assert same(tensors(first), tensors(again))
    assert not same(tensors(first), tensors(other))


def test_others_draws_are_left_as_they_were(images: dict[str, Array], tmp_path: Path) -> None:
    network = network_of(DigitNet(), SHAPE)
    asked, context = context_of(network, finetune(epochs=1), tmp_path, **images)
    before = torch.get_rng_state()
    module.finetune(network, asked, context)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float64"])
def test_samples_of_other_types_are_taken(train: Train, images: dict[str, Array], dtype: str) -> None:
    x = (images["x"][:300] * 255).astype(dtype)
    step = finetune(epochs=1, augmentation={"flip_horizontal": True, "shift": 0.1})
    _, context = train(step, x=x, y=images["y"][:300])
    plain, _ = train(step, x=x.astype(np.float32), y=images["y"][:300])
    assert math.isfinite(context.record.epochs[0].metrics["loss"])
    again, _ = train(step, x=x, y=images["y"][:300])
    # Whole pixels are moved: but for what moving floats rounds, the type makes no difference.
    for name, values in tensors(plain).items():
        np.testing.assert_allclose(tensors(again)[name], values, rtol=1e-3, atol=1e-4)


class TestLearningRate:
    def test_cosine_falls_to_its_final_factor(self, train: Train) -> None:
        schedule = {"type": "cosine", "final_factor": 0.1}
        _, context = train(finetune(epochs=3, learning_rate=1e-2, learning_rate_schedule=schedule))
        steps = context.record.details["optimiser_steps"]
        done = [(epoch + 1) * steps // 3 - 1 for epoch in range(3)]
        expected = [1e-2 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * t / steps))) for t in done]
        assert rates(context) == pytest.approx(expected, rel=1e-4)

    def test_steps_divide_the_rate_between_epochs(self, train: Train) -> None:
        schedule = {"type": "step", "every_epochs": 1, "factor": 0.5}
        _, context = train(finetune(epochs=3, learning_rate_schedule=schedule))
        assert rates(context) == pytest.approx([1e-3, 5e-4, 2.5e-4])

    def test_warm_up_that_never_gets_there_is_said_and_moves_little(self, train: Train) -> None:
        schedule = {"type": "constant", "warmup_steps": 1_000_000}
        step = finetune(epochs=1, optimizer="sgd", freeze_batch_norm=True, learning_rate_schedule=schedule)
        network, context = train(step)
        assert 0 < distance(tensors(network), untrained()) < 1e-5
        assert "warm_up_not_finished" in codes(context)


class TestStopping:
    UNSTEADY: ClassVar = {"learning_rate": 3e-2}

    def test_early_stopping_ends_the_training(self, train: Train) -> None:
        _, context = train(finetune(epochs=9, early_stopping={"patience": 2, "min_delta": 100.0}))
        record = context.record
        assert len(record.epochs) == record.details["stopped_after_epoch"] == 3
        assert record.details["optimiser_steps"] == 3 * math.ceil(len(context.training_data.train) / 64)

    def test_keep_best_delivers_the_weights_of_the_best_epoch(self, train: Train) -> None:
        best, context = train(finetune(epochs=5, keep_best=True, **self.UNSTEADY))
        losses = [epoch.metrics["val_loss"] for epoch in context.record.epochs]
        chosen = context.record.details["best_epoch"]
        assert chosen == int(np.argmin(losses)) + 1
        until, _ = train(finetune(epochs=chosen, **self.UNSTEADY))
        assert same(tensors(best), tensors(until))


class TestBatchNorm:
    def statistics(self, network: Any) -> dict[str, Array]:
        return {name: value for name, value in tensors(network).items() if name.startswith("norm")}

    def test_frozen_one_stays_as_it_came(self, train: Train) -> None:
        before = {name: value for name, value in untrained().items() if name.startswith("norm")}
        frozen, context = train(finetune(epochs=1, freeze_batch_norm=True))
        assert same(before, self.statistics(frozen))
        assert "no_batch_norm" not in codes(context)
        assert frozen.model.norm.weight.requires_grad
        free, _ = train(finetune(epochs=1))
        assert not same(before, self.statistics(free))

    def test_batch_of_one_sample_is_normalised_as_in_inference(self, tmp_path: Path) -> None:
        """PyTorch refuses to take the spread of one value."""
        network = network_of(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)), (4,))
        generator = np.random.default_rng(0)
        x = generator.normal(size=(100, 4)).astype(np.float32)
        asked, context = context_of(
            network, finetune(epochs=1, batch_size=8, validation_split=0.1), tmp_path, x=x, y=x[:, 0] > 0
        )
        count = len(context.training_data.train)
        step = asked.model_copy(update={"batch_size": count - 1})
        module.finetune(network, step, context)
        assert context.record.details["optimiser_steps"] == 2
        assert int(network.model.get_submodule("1").num_batches_tracked) == 1

    def test_model_without_any_is_told(self, tmp_path: Path) -> None:
        x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
        network = network_of(nn.Sequential(nn.Linear(4, 2)), (4,))
        asked, context = context_of(
            network, finetune(freeze_batch_norm=True), tmp_path, x=x, y=(x[:, 0] > 0).astype(np.int64)
        )
        module.finetune(network, asked, context)
        assert "no_batch_norm" in codes(context)


def test_clip_norm_bounds_the_update(train: Train) -> None:
    step = finetune(epochs=1, batch_size=2048, optimizer="sgd", learning_rate=1.0, freeze_batch_norm=True)
    clipped, _ = train({**step, "gradient_clip_norm": 1e-3})
    assert distance(tensors(clipped), untrained()) == pytest.approx(1e-3, rel=1e-2)
    free, _ = train(step)
    assert distance(tensors(free), untrained()) > 1e-2


@pytest.mark.parametrize("weights", ["balanced", {"1": 9.0}])
def test_rare_class_is_found_more_often(tmp_path: Path, weights: Any) -> None:
    generator = np.random.default_rng(0)
    y = (np.arange(600) % 10 == 0).astype(np.int64)
    x = (generator.normal(size=(600, 8)) + y[:, None] * 0.5).astype(np.float32)

    def recall(**options: Any) -> float:
        torch.manual_seed(0)
        network = network_of(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)), (8,))
        asked, context = context_of(
            network, finetune(epochs=12, learning_rate=3e-3, **options), tmp_path, x=x, y=y
        )
        trained = module.finetune(network, asked, context)
        return float((predict(trained, x).argmax(axis=1) == 1)[y == 1].mean())

    assert recall(class_weights=weights) > recall() + 0.3


class TestTasks:
    X = np.random.default_rng(0).random((400, 8), dtype=np.float32)

    def trained(self, tmp_path: Path, *last: nn.Module, activation: str, y: Array | None) -> Trained:
        torch.manual_seed(1)
        network = network_of(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), *last), (8,))
        arrays = {"x": self.X} if y is None else {"x": self.X, "y": y}
        step = finetune(epochs=20, learning_rate=1e-2, batch_size=32)
        asked, context = context_of(network, step, tmp_path, activations=(activation,), **arrays)
        return module.finetune(network, asked, context), context

    @pytest.mark.parametrize("activation", ["linear", "softmax"])
    def test_classes_from_logits_and_from_probabilities(self, tmp_path: Path, activation: str) -> None:
        last = [nn.Linear(16, 2), *([nn.Softmax(dim=1)] if activation == "softmax" else [])]
        labels = (self.X[:, 0] > 0.5).astype(np.int64)
        _, context = self.trained(tmp_path, *last, activation=activation, y=labels)
        assert context.training_data.objectives[0].labels.ndim == 1
        assert context.record.epochs[-1].metrics["val_accuracy"] > 0.85

    @pytest.mark.parametrize(("activation", "outputs"), [("linear", 1), ("sigmoid", 1), ("sigmoid", 3)])
    def test_yes_and_no(self, tmp_path: Path, activation: str, outputs: int) -> None:
        last = [nn.Linear(16, outputs), *([nn.Sigmoid()] if activation == "sigmoid" else [])]
        labels = (self.X[:, :outputs] > 0.5).astype(np.int64)
        _, context = self.trained(tmp_path, *last, activation=activation, y=labels)
        assert context.record.details["loss"] == "binary_crossentropy"
        metrics = context.record.epochs[-1].metrics
        assert metrics["binary_accuracy"] == pytest.approx(metrics["val_binary_accuracy"], abs=0.15)
        assert metrics["val_binary_accuracy"] > 0.85

    def test_values(self, tmp_path: Path) -> None:
        labels = self.X.sum(axis=1, keepdims=True) - 4
        _, context = self.trained(tmp_path, nn.Linear(16, 1), activation="linear", y=labels)
        assert context.record.epochs[-1].metrics["val_mean_squared_error"] < 0.1 * float(labels.var())

    def test_autoencoder_needs_no_labels(self, tmp_path: Path) -> None:
        _, context = self.trained(tmp_path, nn.Linear(16, 8), activation="linear", y=None)
        assert context.record.details["loss"] == "mean_squared_error"
        epochs = context.record.epochs
        assert epochs[-1].metrics["val_loss"] < 0.5 * epochs[0].metrics["val_loss"]

    def test_autoencoder_of_augmented_images_learns_the_augmented_images(
        self, images: dict[str, Array], tmp_path: Path
    ) -> None:
        torch.manual_seed(1)
        layers = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1)]
        network = network_of(nn.Sequential(*layers), SHAPE)
        step = finetune(epochs=8, learning_rate=1e-2, batch_size=16, augmentation={"shift": 0.2})
        asked, context = context_of(network, step, tmp_path, x=images["x"][:300])
        module.finetune(network, asked, context)
        # Learned against images that had not moved, it would be no better than their mean.
        assert context.record.epochs[-1].metrics["val_loss"] < 0.3 * float(images["x"].var())


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(6, 16)
        self.kind = nn.Linear(16, 3)
        self.size = nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = torch.relu(self.trunk(x))
        return self.kind(hidden), self.size(hidden)


class TestSeveralOutputs:
    X = np.random.default_rng(1).normal(size=(400, 6)).astype(np.float32)

    def trained(self, tmp_path: Path, labels: dict[str, Array], **options: Any) -> Context:
        torch.manual_seed(2)
        network = network_of(TwoHeads(), (6,), outputs=("kind", "size"))
        self.before = tensors(network)
        asked, context = context_of(
            network,
            finetune(epochs=10, learning_rate=1e-2, **options),
            tmp_path,
            activations=("linear", "linear"),
            x=self.X,
            **{f"y/{name}": values for name, values in labels.items()},
        )
        self.after = tensors(module.finetune(network, asked, context))
        return context

    def test_all_are_learned_and_told(self, tmp_path: Path) -> None:
        labels = {"kind": self.X[:, :3].argmax(axis=1), "size": self.X[:, 3:].sum(axis=1, keepdims=True)}
        context = self.trained(tmp_path, labels, loss_weights={"size": 0.5})
        last = context.record.epochs[-1].metrics
        assert set(last) == {
            *("loss", "kind_loss", "size_loss", "kind_accuracy", "size_mean_squared_error"),
            *("val_loss", "val_kind_accuracy", "val_size_mean_squared_error", "learning_rate"),
        }
        assert last["loss"] == pytest.approx(last["kind_loss"] + 0.5 * last["size_loss"], rel=1e-5)
        assert last["val_kind_accuracy"] > 0.7
        assert last["val_size_mean_squared_error"] < 0.5 * float(labels["size"].var())

    def test_the_one_without_labels_is_trained_by_none(self, tmp_path: Path) -> None:
        context = self.trained(tmp_path, {"kind": self.X[:, :3].argmax(axis=1)})
        assert set(context.record.details["loss"]) == {"kind"}
        assert (self.before["size.weight"] == self.after["size.weight"]).all()
        assert (self.before["kind.weight"] != self.after["kind.weight"]).any()


class TestDivergence:
    STEP: ClassVar[dict[str, Any]] = finetune(epochs=40, batch_size=16, optimizer="sgd", learning_rate=10.0)
    X = 10 * np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)

    def failure(self, tmp_path: Path, **options: Any) -> tuple[CompressionError, Any, dict[str, Array]]:
        torch.manual_seed(0)
        network = network_of(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 3)), (8,))
        before = tensors(network)
        asked, context = context_of(network, {**self.STEP, **options}, tmp_path, x=self.X, y=self.X[:, :3])
        with pytest.raises(CompressionError) as caught:
            module.finetune(network, asked, context)
        assert caught.value.code == "training_diverged"
        return caught.value, network, before

    def test_of_the_first_epoch_nothing_is_kept(self, tmp_path: Path) -> None:
        error, network, before = self.failure(tmp_path)
        assert error.kept is None
        assert "in epoch 1" in error.detail
        assert "learning rate of 1" in (error.hint or "")
        assert same(before, tensors(network))

    def test_last_good_network_is_kept(self, tmp_path: Path) -> None:
        warm_up = {"type": "constant", "warmup_steps": 3000}
        error, network, before = self.failure(tmp_path, learning_rate_schedule=warm_up)
        assert error.kept is not None
        assert "at the end of epoch" in error.kept.what
        kept = tensors(error.kept.network)
        assert all(np.isfinite(value).all() for value in kept.values())
        assert not same(before, kept)
        assert same(kept, tensors(network))


def test_model_without_weights_to_train_is_refused(tmp_path: Path) -> None:
    network = network_of(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), (4,))
    for value in network.model.parameters():
        value.requires_grad_(False)
    x = np.zeros((60, 4), np.float32)
    asked, context = context_of(network, finetune(), tmp_path, x=x, y=np.arange(60) % 2)
    with pytest.raises(CompressionError) as caught:
        module.finetune(network, asked, context)
    assert caught.value.code == "unsupported_model"


class Recording(TrainingPart):
    """Holds one weight at nought, and remembers in what order it was asked."""

    settled = 20

    def __init__(self, *_: Any) -> None:
        self.told: list[Any] = []

    def begin(self, model: Any) -> None:
        self.told.append("begin")
        self._weight = model.logits.weight

    def before_step(self, step: int) -> None:
        self.told.append(-step)

    def after_step(self, step: int) -> None:
        self.told.append(step)
        with torch.no_grad():
            self._weight[0, 0] = 0.0

    def sparsity(self) -> float:
        return 0.25

    def unwrap(self, model: Any) -> Any:
        self.told.append("unwrap")
        return model

    def outcome(self, network: Any, taken: int, context: Context) -> Any:
        self.told.append(("outcome", taken))
        return network


def test_parts_are_asked_in_order(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[Recording] = []

    def masking(*arguments: Any) -> Recording:
        parts.append(Recording(*arguments))
        return parts[-1]

    monkeypatch.setattr(module, "Masking", masking)
    network, context = train(finetune(epochs=2, keep_best=True))
    steps = context.record.details["optimiser_steps"]
    each = [told for step in range(1, steps + 1) for told in (-step, step)]
    assert parts[0].told == ["begin", *each, "unwrap", ("outcome", steps)]
    assert [epoch.sparsity for epoch in context.record.epochs] == [0.25, 0.25]
    assert network.model.logits.weight[0, 0] == 0
    # Settled after the only epoch that could have been chosen.
    assert "best_among_few" in codes(context)
