"""Every criterion against its formula, on networks small enough to write the sums out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tasks.compression.backends.tensorflow._framework import keras, tf
from tasks.compression.backends.tensorflow.structured import dependencies
from tasks.compression.errors import CompressionError
from tasks.compression.structured import CRITERIA, importance
from tests.compression.structured.networks import (
    randomised,
    ready,
    resnet,
    sample,
    vgg,
)

layers = keras.layers


def perceptron() -> Any:
    vector = keras.Input((3,))
    x = layers.Dense(4, activation="tanh", name="hidden")(vector)
    return randomised(keras.Model(vector, layers.Dense(2, name="head")(x)))


def hidden_scores(model: Any, criterion: Any, **options: Any) -> Any:
    graph = dependencies(model)
    group = next(group for group in graph.groups if group.makers == ("hidden",))
    return importance(graph, criterion, **options)[group.units]


@pytest.mark.parametrize(("criterion", "order"), [("l1", 1), ("l2", 2)])
def test_norms_average_what_makes_and_what_consumes_a_unit(criterion: str, order: int) -> None:
    model = perceptron()
    made = np.linalg.norm(model.get_layer("hidden").get_weights()[0], order, axis=0)
    consumed = np.linalg.norm(model.get_layer("head").get_weights()[0], order, axis=1)

    expected = (made / made.mean() + consumed / consumed.mean()) / 2

    np.testing.assert_allclose(hidden_scores(model, criterion), expected, rtol=1e-5)


def test_norms_add_up_over_the_positions_of_a_flattened_channel() -> None:
    model = ready(vgg)
    graph = dependencies(model)
    group = next(group for group in graph.groups if group.makers == ("conv2",))
    made = np.abs(model.get_layer("conv2").get_weights()[0]).sum((0, 1, 2))
    consumed = np.abs(model.get_layer("fc1").get_weights()[0].reshape(16, 10, 20)).sum((0, 2))

    expected = (made / made.mean() + consumed / consumed.mean()) / 2

    np.testing.assert_allclose(importance(graph, "l1")[group.units], expected, rtol=1e-5)


def test_geometric_median_is_the_sum_of_distances_to_the_other_filters() -> None:
    model = perceptron()
    filters = model.get_layer("hidden").get_weights()[0].T
    distances = np.linalg.norm(filters[:, None] - filters[None], axis=2).sum(axis=1)

    np.testing.assert_allclose(
        hidden_scores(model, "geometric_median"), distances / distances.mean(), rtol=1e-5
    )


def test_batchnorm_scale_is_gamma_and_silent_without_any() -> None:
    model = ready(resnet)
    graph = dependencies(model)
    scores = importance(graph, "batchnorm_scale")
    inner = next(group for group in graph.groups if group.makers == ("s0b0_a",))
    head = next(group for group in graph.groups if group.makers == ("head",))
    gamma = np.abs(model.get_layer("s0b0_a_bn").gamma.numpy())

    np.testing.assert_allclose(scores[inner.units], gamma / gamma.mean(), rtol=1e-5)
    assert np.isnan(scores[head.units]).all()


def test_taylor_is_the_squared_gradient_of_a_gate_on_the_unit() -> None:
    model = perceptron()
    x = sample(model, 16)
    y = np.random.default_rng(2).normal(size=(16, 2)).astype(np.float32)

    hidden, head = model.get_layer("hidden"), model.get_layer("head")
    expected = np.zeros(4)
    for part in (slice(0, 8), slice(8, 16)):
        gates = tf.ones(4)
        with tf.GradientTape() as tape:
            tape.watch(gates)
            loss = tf.reduce_mean(tf.square(head(hidden(x[part]) * gates) - y[part]))
        expected += np.square(tape.gradient(loss, gates).numpy()) / 2

    batches = [(x[:8], y[:8]), (x[8:], y[8:])]
    np.testing.assert_allclose(
        hidden_scores(model, "taylor", batches=batches, loss="mean_squared_error"), expected, rtol=1e-4
    )


def test_taylor_takes_the_loss_of_the_compiled_model() -> None:
    model = perceptron()
    batches = [(sample(model, 4), np.ones((4, 2), np.float32))]
    named = hidden_scores(model, "taylor", batches=batches, loss="mean_squared_error")
    model.compile("sgd", "mse")

    np.testing.assert_allclose(hidden_scores(model, "taylor", batches=batches), named, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({}, "dataset_required"),
        ({"batches": []}, "dataset_required"),
        ({"batches": [(0, 0)]}, "loss_not_inferable"),
        ({"batches": [(np.full((1, 3), np.nan, "f"), np.ones((1, 2), "f"))], "loss": "mse"}, "not_finite"),
    ],
)
def test_taylor_without_what_it_needs_is_refused(options: Any, code: str) -> None:
    if options.get("batches") == []:
        options = {**options, "loss": "mse"}
    with pytest.raises(CompressionError) as caught:
        importance(dependencies(perceptron()), "taylor", **options)

    assert caught.value.code == code


def test_random_is_drawn_with_its_seed() -> None:
    graph = dependencies(perceptron())

    np.testing.assert_array_equal(importance(graph, "random", seed=3), importance(graph, "random", seed=3))
    assert (importance(graph, "random", seed=3) != importance(graph, "random", seed=4)).all()


@pytest.mark.parametrize("criterion", [name for name in CRITERIA if name != "taylor"])
def test_scores_are_one_for_every_unit(criterion: Any) -> None:
    graph = dependencies(ready(resnet))

    assert importance(graph, criterion).shape == (graph.count,)
