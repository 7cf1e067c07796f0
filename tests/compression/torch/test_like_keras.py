"""That a spec does the same to a PyTorch network as to a Keras one: losses, optimisers, augmentation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from featherweight.spec import Augmentation, Finetune
from tasks.compression.backends.tensorflow import augment as keras_augment
from tasks.compression.backends.tensorflow import joint as keras_joint
from tasks.compression.backends.tensorflow import teaching as keras_teaching
from tasks.compression.backends.tensorflow._framework import tf
from tasks.compression.backends.tensorflow.fit import _optimizer
from tasks.compression.backends.torch.augment import warped
from tasks.compression.backends.torch.joint import RunningMetrics, loss_of, targets_of
from tasks.compression.backends.torch.optimisers import optimiser
from tasks.compression.backends.torch.teaching import divergence
from tasks.compression.objective import Objective, infer_objective
from tests.compression.test_objective import facts
from tests.compression.torch.trainable import Array

GENERATOR = np.random.default_rng(0)
LOGITS = GENERATOR.normal(size=(7, 3)).astype(np.float32) * 4
SHARES = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
SIGMOIDS = 1 / (1 + np.exp(-LOGITS))
CLASSES = GENERATOR.integers(0, 3, 7)
SEVERAL = (GENERATOR.random((7, 3)) > 0.5).astype(np.int64)

CASES = {
    "logits": ("linear", CLASSES, LOGITS),
    "softmax": ("softmax", CLASSES, SHARES),
    "saturated_softmax": ("softmax", CLASSES, np.eye(3, dtype=np.float32)[GENERATOR.integers(0, 3, 7)]),
    "sigmoid": ("sigmoid", SEVERAL, SIGMOIDS),
    "values": ("linear", LOGITS[::-1].copy(), LOGITS),
}


def objective(case: str) -> tuple[Objective, Array]:
    activation, labels, outputs = CASES[case]
    return infer_objective(facts((3,), activation), labels, None), outputs.astype(np.float32)


@pytest.mark.parametrize("case", CASES)
def test_losses_and_divergences(case: str) -> None:
    aim, outputs = objective(case)
    ours = float(loss_of(aim)(targets_of(aim.labels), targets_of(outputs)))
    assert ours == pytest.approx(float(keras_joint.loss_of(aim)(aim.labels, outputs)), rel=1e-5)
    weights = np.linspace(0.5, 2, 7, dtype=np.float32)
    weighed = float(loss_of(aim)(targets_of(aim.labels), targets_of(outputs), torch.tensor(weights)))
    theirs = keras_joint.loss_of(aim)(aim.labels, outputs, sample_weight=weights)
    assert weighed == pytest.approx(float(theirs), rel=1e-5)
    answers = np.roll(outputs, 1, axis=0)
    found = divergence(aim, 3.0, torch.tensor(answers), torch.tensor(outputs)).numpy()
    expected = np.asarray(keras_teaching.divergence(aim, 3.0, answers, outputs))
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("case", ["logits", "sigmoid", "values"])
def test_metrics_over_batches(case: str) -> None:
    aim, outputs = objective(case)
    metrics = RunningMetrics(aim, losses=True)
    theirs = keras_joint.metrics_of(aim)
    for chosen in (slice(0, 4), slice(4, 7)):
        labels, given = targets_of(aim.labels[chosen]), targets_of(outputs[chosen])
        metrics.update(loss_of(aim)(labels, given), {}, labels, given)
        for metric in theirs:
            metric.update_state(aim.labels[chosen], outputs[chosen])
    values = metrics.values()
    for metric in theirs:
        assert values[metric.name] == pytest.approx(float(metric.result()), rel=1e-5)
    whole = float(loss_of(aim)(targets_of(aim.labels), targets_of(outputs)))
    assert values["loss"] == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("adam", 1e-3),
        ("adamw", 1e-3),
        ("nadam", 1e-3),
        ("rmsprop", 0.05),
        ("sgd", 1e-4),
        ("sgd_momentum", 1e-4),
    ],
)
def test_optimisers_move_alike(name: str, tolerance: float) -> None:
    """As far in thirty steps, to within a small share of the way; RMSprop's epsilon is in another place."""
    step = Finetune(technique="finetune", optimizer=name, learning_rate=0.01)  # type: ignore[arg-type]
    begin = GENERATOR.normal(size=20).astype(np.float32)
    gradients = GENERATOR.normal(size=(30, 20)).astype(np.float32)
    theirs, ours = tf.Variable(begin), torch.nn.Parameter(torch.tensor(begin))
    keras, plain = _optimizer(step, step.learning_rate), optimiser(step, [ours])
    for gradient in gradients:
        keras.apply_gradients([(tf.constant(gradient), theirs)])
        ours.grad = torch.tensor(gradient)
        plain.step()
    way = np.abs(theirs.numpy() - begin).max()
    assert way > 0.01
    assert np.abs(ours.detach().numpy() - theirs.numpy()).max() < tolerance * way


@pytest.mark.parametrize(
    "options",
    [
        {"shift": 0.3},
        {"rotate_degrees": 30},
        {"zoom": 0.4},
        {"shift": 0.2, "rotate_degrees": 20, "zoom": 0.2},
    ],
    ids=["shift", "rotate", "zoom", "all"],
)
def test_images_are_changed_alike(options: dict[str, Any]) -> None:
    asked = Augmentation(**options)
    images = GENERATOR.random((6, 12, 15, 2), dtype=np.float32)
    draws = GENERATOR.uniform(-1, 1, (4, 6)).astype(np.float32)
    expected = keras_augment._warped(tf.constant(images), asked, tf.constant(draws)).numpy()
    found = warped(torch.tensor(images).permute(0, 3, 1, 2), asked, torch.tensor(draws))
    np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), expected, atol=1e-4)
