"""Distillation of PyTorch networks: towards the uploaded network's outputs, and its layers' answers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tasks.compression import CompressionError
from tasks.compression.backends.torch.distill import check, distill
from tasks.compression.backends.torch.network import Network
from tasks.compression.context import Context
from tests.compression.networks import digits
from tests.compression.torch.test_fit import TwoHeads
from tests.compression.torch.trainable import Array, DigitNet, context_of, network_of, predict, tensors

SHAPE = (1, 28, 28)
Taught = tuple[Network, Context]
Teach = Callable[..., Taught]


def step_of(**options: Any) -> dict[str, Any]:
    return {"technique": "distill", "epochs": 3, "batch_size": 64, "learning_rate": 3e-3, **options}


@pytest.fixture(scope="module")
def images() -> dict[str, Array]:
    x, y = digits()
    return {"x": x[:600, None], "y": y[:600]}


@pytest.fixture
def teach(images: dict[str, Array], tmp_path: Path) -> Teach:
    """Teach a network whose weights were disturbed what it knew before."""

    def teach(step: dict[str, Any], **changed: Any) -> Taught:
        torch.manual_seed(0)
        network = network_of(DigitNet(), SHAPE)
        asked, context = context_of(network, step, tmp_path, **{**images, **changed})
        disturb(network)
        return distill(network, asked, context), context  # type: ignore[arg-type]

    return teach


def disturb(network: Network) -> None:
    with torch.no_grad():
        for value in network.model.parameters():
            value.mul_(torch.linspace(0, 1, value.numel()).reshape(value.shape))


def disturbed() -> Network:
    torch.manual_seed(0)
    network = network_of(DigitNet(), SHAPE)
    disturb(network)
    return network


def gap(network: Network, context: Context, x: Array) -> float:
    return float(np.abs(predict(network, x) - predict(context.original, x)).mean())


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_student_comes_back_to_its_teacher(teach: Teach, images: dict[str, Array], weight: float) -> None:
    student, context = teach(step_of(weight=weight, epochs=10, batch_size=32, freeze_batch_norm=True))
    x = images["x"]
    if weight == 1.0:
        assert gap(student, context, x) < 0.5 * gap(disturbed(), context, x)
    losses = [epoch.metrics["val_loss"] for epoch in context.record.epochs]
    assert losses[-1] < losses[0]
    details = context.record.details
    assert (details["teacher"], details["weight"], details["features"]) == ("the uploaded model", weight, [])


def test_teacher_stays_as_it_was(teach: Teach) -> None:
    torch.manual_seed(0)
    before = tensors(network_of(DigitNet(), SHAPE))
    _, context = teach(step_of(augmentation={"shift": 0.1}))
    after = tensors(context.original)
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)


def test_labels_make_no_difference_with_weight_1(teach: Teach, images: dict[str, Array]) -> None:
    step = step_of(weight=1.0, epochs=1, validation_split=0)
    right, _ = teach(step)
    wrong, _ = teach(step, y=(images["y"] + 1) % 10)
    x = images["x"][:50]
    # Samples are divided by their labels, and in others' order: the same to within what that makes.
    assert np.abs(predict(right, x) - predict(wrong, x)).mean() < 0.2 * np.abs(predict(right, x)).mean()


def test_features_come_closer_to_the_teachers(teach: Teach, images: dict[str, Array]) -> None:
    def norms(network: Network) -> Array:
        model = copy.deepcopy(network.model).eval()
        with torch.no_grad():
            return np.asarray(model.norm(model.conv(torch.tensor(images["x"][:100]))))

    # Moving averages lag behind in so short a training, and would blur what is compared.
    step = step_of(freeze_batch_norm=True)
    plain, _ = teach(step)
    matched, context = teach({**step, "features": ["nor*"], "feature_weight": 100.0})
    assert context.record.details["features"] == ["norm"]
    theirs = norms(context.original)
    assert np.square(norms(matched) - theirs).mean() < 0.7 * np.square(norms(plain) - theirs).mean()


def test_the_options_of_training_combine_with_it(teach: Teach) -> None:
    options = {"class_weights": "balanced", "keep_best": True, "gradient_clip_norm": 1.0}
    augmentation = {"shift": 0.05, "flip_horizontal": True}
    _, context = teach(step_of(**options, augmentation=augmentation, features=["conv", "logits"]))
    assert context.record.details["features"] == ["conv", "logits"]
    assert set(context.record.epochs[0].metrics) >= {"loss", "accuracy", "val_loss", "val_accuracy"}


def test_feature_that_is_not_there_is_refused_at_its_place(images: dict[str, Array], tmp_path: Path) -> None:
    network = network_of(DigitNet(), SHAPE)
    asked, _ = context_of(network, step_of(features=["conv", "none_such"]), tmp_path, **images)
    with pytest.raises(CompressionError) as caught:
        check(network, asked, "/steps/0")  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.pointer) == ("layer_not_found", "/steps/0/features/1")


@pytest.mark.parametrize("gone", [False, True])
def test_feature_that_an_earlier_step_changed_is_refused(
    images: dict[str, Array], tmp_path: Path, gone: bool
) -> None:
    network = network_of(nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.Linear(8, 10)), SHAPE)
    asked, context = context_of(network, step_of(features=["1"]), tmp_path, **images)
    between = nn.Sequential(nn.Linear(784, 6), nn.Linear(6, 8)) if gone else nn.Linear(784, 6)
    cut = nn.Sequential(nn.Flatten(), between, nn.Linear(8 if gone else 6, 10))
    with pytest.raises(CompressionError) as caught:
        distill(network_of(cut, SHAPE), asked, context)  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.layer) == ("layer_not_supported", "1")
    assert "took the layer out" in caught.value.detail if gone else "changed the shape" in caught.value.detail


@pytest.mark.parametrize(("outputs", "activation"), [(1, "linear"), (1, "sigmoid"), (3, "sigmoid")])
def test_values_and_yes_or_no_are_distilled_too(tmp_path: Path, outputs: int, activation: str) -> None:
    torch.manual_seed(2)
    last = [nn.Sigmoid()] if activation == "sigmoid" else []
    network = network_of(nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, outputs), *last), (6,))
    x = np.random.default_rng(0).normal(size=(600, 6)).astype(np.float32)
    loss = {"loss": "mean_squared_error"} if activation == "linear" else {}
    asked, context = context_of(
        network,
        step_of(weight=1.0, epochs=10, learning_rate=1e-2, **loss),
        tmp_path,
        activations=(activation,),
        x=x,
    )
    disturb(network)
    before = gap(network, context, x)
    assert gap(distill(network, asked, context), context, x) < 0.7 * before  # type: ignore[arg-type]


def test_outputs_without_labels_are_held_to_the_teachers(tmp_path: Path) -> None:
    torch.manual_seed(2)
    network = network_of(TwoHeads(), (6,), outputs=("kind", "size"))
    x = np.random.default_rng(1).normal(size=(400, 6)).astype(np.float32)
    asked, context = context_of(
        network,
        step_of(epochs=8, learning_rate=1e-2, loss={"size": "mean_squared_error"}),
        tmp_path,
        activations=("linear", "linear"),
        **{"x": x, "y/kind": x[:, :3].argmax(axis=1)},
    )
    disturb(network)
    before = np.abs(predict(network, x).of("size") - predict(context.original, x).of("size")).mean()
    student = distill(network, asked, context)  # type: ignore[arg-type]
    after = np.abs(predict(student, x).of("size") - predict(context.original, x).of("size")).mean()
    assert after < 0.5 * before
    assert set(context.record.epochs[0].metrics) >= {"loss", "kind_accuracy", "val_kind_accuracy"}
