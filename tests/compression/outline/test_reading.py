"""Outlines against Keras itself: layers, weights, shapes, MACs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.compression.backends.tensorflow.layers import placed_layers
from tasks.compression.backends.tensorflow.structured import count, dependencies, outlined
from tasks.compression.backends.tensorflow.structured.graph import trace
from tasks.compression.outline.facts import Outline
from tasks.compression.outline.reading import read_outline
from tasks.compression.outline.skeleton import cost, graph_of
from tests.compression.networks import keras, save_model
from tests.compression.planning.networks import NETWORKS as SMALL


def everything() -> Any:
    """A network of many kinds of layers, some of them nested, shared or wrapped."""
    layers = keras().layers
    inner = keras().Sequential([layers.InputLayer((16,)), layers.Dense(16, name="deep")], name="inner")
    image = layers.Input((12, 12, 3), name="image")
    x = layers.ZeroPadding2D(1)(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="conv")(x)
    x = layers.BatchNormalization(scale=False, name="norm")(x)
    x = layers.UpSampling2D()(layers.AveragePooling2D(3, strides=2)(x))
    x = layers.Conv2DTranspose(6, 3, strides=2, padding="same", name="up")(x)
    x = layers.Cropping2D(((1, 0), (0, 1)))(x)
    x = layers.SeparableConv2D(16, 3, dilation_rate=2, padding="same", name="separable")(x)
    x = layers.PReLU(shared_axes=[1, 2], name="prelu")(x)
    x = layers.GroupNormalization(4, name="groups")(x) * 2.0
    x = inner(layers.GlobalAveragePooling2D()(x))
    x = layers.RepeatVector(5)(x)
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True), name="both")(x)
    x = layers.TimeDistributed(layers.Dense(4), name="each")(x)
    x = layers.Conv1D(6, 2, padding="causal", name="causal")(x)
    x = layers.Permute((2, 1))(layers.Reshape((6, -1))(x))
    x = layers.GRU(4, name="gru")(x)
    return keras().Model(image, layers.Dense(3, activation="softmax", name="out")(x))


NETWORKS: dict[str, Callable[[], Any]] = {**SMALL, "everything": everything}


@pytest.fixture(params=["keras", "h5"])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Any], Path]:
    return lambda model: save_model(model, tmp_path / f"m.{request.param}")


@pytest.mark.parametrize("name", NETWORKS)
def test_outline_is_what_keras_loads(name: str, saved: Callable[[Any], Path]) -> None:
    model = NETWORKS[name]()
    outline = read_outline(saved(model))
    places = list(placed_layers(model))
    assert [layer.path for layer in outline.listed()] == [place.path for place in places]
    for layer, place in zip(outline.listed(), places, strict=True):
        assert layer.kind == type(place.layer).__name__
        assert sorted(weight.shape for weight in layer.weights) == sorted(
            tuple(weight.shape) for weight in place.layer.weights
        )
        assert layer.nonzero == sum(int(np.count_nonzero(w.numpy())) for w in place.layer.weights)
    assert outline.refused is None
    assert outline.parameters == model.count_params()
    assert outline.shapes(outline.outputs) == [tuple(model.outputs[0].shape)]


@pytest.mark.parametrize("name", NETWORKS)
def test_macs_and_channel_groups_are_those_of_the_model(name: str, saved: Callable[[Any], Path]) -> None:
    model = NETWORKS[name]()
    outline = read_outline(saved(model))
    found = cost(outline)
    counted = count(model)
    assert not found.unknown
    assert found.total == counted.macs
    assert {layer.name: layer.macs for layer in counted.layers if layer.macs} == {
        path: macs for path, macs in found.macs.items() if macs
    }
    _compare_groups(model, outline)


def _compare_groups(model: Any, outline: Outline) -> None:
    ours, theirs = outlined(graph_of(outline)), dependencies(model)
    shapes = {call.name: [tensor.shape for tensor in call.outputs] for call in trace(model).calls}
    for call in graph_of(outline).calls:
        assert [tensor.shape for tensor in call.outputs] == shapes[call.name] or not shapes[call.name]
    assert {(group.makers, len(group.units), group.kept) for group in ours.groups} == {
        (group.makers, len(group.units), group.kept) for group in theirs.groups
    }
    assert ours.opaque == theirs.opaque


def test_zeros_and_distinct_values_are_counted(tmp_path: Path) -> None:
    layers = keras().layers
    model = keras().Sequential([layers.InputLayer((8,)), layers.Dense(4, name="dense")])
    kernel = np.zeros((8, 4), np.float32)
    kernel[0] = [1, 2, 2, -3]
    model.get_layer("dense").set_weights([kernel, np.arange(4, dtype=np.float32)])
    (layer,) = [each for each in read_outline(save_model(model, tmp_path / "m.keras")).layers if each.weights]
    assert [(weight.name, weight.zeros, weight.distinct) for weight in layer.weights] == [
        ("kernel", 28, 4),
        ("bias", 1, 4),
    ]


def test_compiled_state_is_read_without_being_restored(tmp_path: Path) -> None:
    layers = keras().layers
    model = keras().Sequential([layers.InputLayer((4,)), layers.Dense(2, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(np.zeros((8, 4)), np.zeros(8), verbose=0)
    outline = read_outline(save_model(model, tmp_path / "m.keras"))
    assert (outline.loss, outline.output_activation) == ("sparse_categorical_crossentropy", "softmax")
    assert outline.has_optimizer_state
    assert outline.parameters == model.count_params()
