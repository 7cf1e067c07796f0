"""Costs, against formulas written out and published numbers."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.compression.backends.tensorflow._framework import keras
from tasks.compression.backends.tensorflow.structured import count, dependencies
from tests.compression.structured.networks import (
    SMALL,
    Network,
    ready,
)

layers = keras.layers


@pytest.mark.parametrize(
    ("shape", "layer", "macs"),
    [
        ((8, 8, 3), lambda: layers.Conv2D(5, 3), 6 * 6 * 5 * 3 * 9),
        ((8, 8, 3), lambda: layers.Conv2D(5, (1, 3), strides=2, padding="same"), 4 * 4 * 5 * 3 * 3),
        ((8, 8, 6), lambda: layers.Conv2D(4, 3, groups=2, padding="same"), 8 * 8 * 4 * 3 * 9),
        ((8, 8, 3), lambda: layers.Conv2DTranspose(5, 2, strides=2), 8 * 8 * 5 * 3 * 4),
        ((8, 8, 3), lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), 6 * 6 * 3 * 2 * 9),
        ((8, 8, 3), lambda: layers.SeparableConv2D(5, 3, depth_multiplier=2), 6 * 6 * (6 * 9 + 6 * 5)),
        ((10, 3), lambda: layers.Conv1D(4, 3, padding="causal"), 10 * 4 * 3 * 3),
        ((4, 4, 4, 2), lambda: layers.Conv3D(3, 2), 27 * 3 * 2 * 8),
        ((7,), lambda: layers.Dense(5), 35),
        ((6, 7), lambda: layers.Dense(5), 6 * 35),
        ((6, 7), lambda: layers.TimeDistributed(layers.Dense(5)), 6 * 35),
        ((6, 8, 8, 3), lambda: layers.TimeDistributed(layers.Conv2D(5, 3)), 6 * 36 * 5 * 27),
        ((6, 7), lambda: layers.LSTM(5), 6 * 4 * (7 * 5 + 5 * 5)),
        ((6, 7), lambda: layers.GRU(5), 6 * 3 * (7 * 5 + 5 * 5)),
        ((6, 7), lambda: layers.Bidirectional(layers.SimpleRNN(5)), 2 * 6 * (35 + 25)),
        ((6, 7), lambda: layers.EinsumDense("abc,cd->abd", (None, 5)), 6 * 35),
        ((6, 7), lambda: layers.EinsumDense("...x,xyz->...yz", (2, 3)), 6 * 42),
        ((4, 8, 8, 3), lambda: layers.ConvLSTM2D(5, 3, padding="same"), 4 * 64 * 9 * 20 * (3 + 5)),
        ((8, 8, 3), lambda: layers.BatchNormalization(), 0),
        ((8, 8, 3), lambda: layers.MaxPooling2D(), 0),
    ],
)
def test_macs_of_a_layer(shape: tuple[int, ...], layer: Any, macs: int) -> None:
    given = keras.Input(shape)

    assert count(keras.Model(given, layer()(given))).macs == macs


def test_attention_counts_projections_and_products() -> None:
    query, value = keras.Input((6, 8)), keras.Input((5, 7))
    made = layers.MultiHeadAttention(2, 4, value_dim=3)(query, value)

    projections = 6 * 8 * 2 * 4 + 5 * 7 * 2 * 4 + 5 * 7 * 2 * 3 + 6 * 2 * 3 * 8
    assert count(keras.Model([query, value], made)).macs == projections + 2 * 6 * 5 * (4 + 3)


def test_shared_layer_has_its_parameters_once_and_its_macs_twice() -> None:
    one, two = keras.Input((7,)), keras.Input((7,))
    shared = layers.Dense(5)
    cost = count(keras.Model([one, two], layers.Add()([shared(one), shared(two)])))

    assert (cost.parameters, cost.macs) == (40, 70)


def test_nested_model_is_counted_at_the_size_it_is_called_with() -> None:
    inside = keras.Input((None, None, 3))
    body = keras.Model(inside, layers.Conv2D(4, 3, padding="same")(inside), name="body")
    image = keras.Input((8, 8, 3))

    cost = count(keras.Model(image, body(image)))

    assert cost.macs == 8 * 8 * 4 * 27
    assert cost.assumed == {}
    assert [layer.name for layer in cost.layers] == [f"body/{body.layers[1].name}"]


def test_open_sizes_count_as_one_and_are_named() -> None:
    image = keras.Input((None, None, 3))
    cost = count(keras.Model(image, layers.Conv2D(4, 3, padding="same", name="open")(image)))

    assert cost.macs == 4 * 27
    assert cost.assumed == {"open": "with the sizes that the model leaves open as 1"}


def test_sizes_that_keras_cannot_compute_are_those_built_and_named() -> None:
    """A nested model has a layer of which only calling it on the very size would tell what comes out."""

    class Untold(layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x[:, ::2, ::2]

        def compute_output_shape(self, shape: Any) -> Any:
            raise NotImplementedError

    inside = keras.Input((8, 8, 3))
    before = layers.Conv2D(4, 3, padding="same", name="before")(inside)
    after = layers.Conv2D(5, 3, padding="same", name="after")(Untold()(before))
    body = keras.Model(inside, layers.Dense(2, name="head")(layers.GlobalMaxPooling2D()(after)), name="body")
    image = keras.Input((16, 16, 3))

    cost = count(keras.Model(image, body(image)))

    macs = {layer.name: layer.macs for layer in cost.layers}
    assert macs["body/before"] == 16 * 16 * 4 * 27
    assert macs["body/after"] == 4 * 4 * 5 * 36  # not 8 * 8: half of what the body was built with
    assert list(cost.assumed) == ["body/after"]
    assert "was built with" in cost.assumed["body/after"]


@pytest.mark.slow
def test_published_networks_cost_what_their_papers_say() -> None:
    mobilenet = count(keras.applications.MobileNetV2(weights=None))  # Sandler et al. 2018: 3.4M, 300M
    resnet = count(
        keras.applications.ResNet50(weights=None)
    )  # He et al. 2016: 3.8 G, stride in the first 1x1

    assert (mobilenet.parameters, mobilenet.macs) == (3_538_984, 300_774_272)
    assert resnet.parameters == 25_636_712
    assert 3.8e9 < resnet.macs < 3.9e9


@pytest.mark.ends
@pytest.mark.parametrize("network", SMALL, ids=lambda network: network.__name__)
def test_dependency_graph_counts_the_same(network: Network) -> None:
    model = ready(network)
    graph, cost = dependencies(model), count(model)

    assert (graph.parameters(graph.everything()), graph.macs(graph.everything())) == (
        cost.parameters,
        cost.macs,
    )
    assert cost.parameters == model.count_params()
