"""Tiny networks of the kinds that plans have to understand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.compression.networks import keras

__all__ = ["NETWORKS"]


def conv() -> Any:
    layers = keras().layers
    return keras().Sequential(
        [
            layers.InputLayer((8, 8, 3)),
            layers.Conv2D(8, 3, padding="same", activation="relu", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.MaxPooling2D(),
            layers.DepthwiseConv2D(3, name="depthwise"),
            layers.Flatten(),
            layers.Dense(24, activation="relu", name="hidden"),
            layers.Dense(4, name="logits"),
        ]
    )


def residual() -> Any:
    layers = keras().layers
    image = layers.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, padding="same", name="stem")(image)
    y = layers.Conv2D(12, 3, padding="same", activation="relu", name="first")(x)
    y = layers.Conv2D(16, 3, padding="same", name="second")(y)
    x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Conv2D(20, 3, strides=2, padding="same", name="down")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras().Model(image, layers.Dense(4, activation="softmax", name="head")(x))


def separable() -> Any:
    layers = keras().layers
    return keras().Sequential(
        [
            layers.InputLayer((8, 8, 4)),
            layers.SeparableConv2D(16, 3, name="separable"),
            layers.Conv2DTranspose(8, 3, strides=2, name="up"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(4, name="out"),
        ]
    )


def lstm() -> Any:
    layers = keras().layers
    return keras().Sequential(
        [layers.InputLayer((6, 4)), layers.LSTM(16, name="lstm"), layers.Dense(4, name="out")]
    )


def nested() -> Any:
    layers = keras().layers
    inner = keras().Sequential(
        [
            layers.InputLayer((8,)),
            layers.Dense(16, activation="relu", name="deep"),
            layers.Dense(8, name="back"),
        ],
        name="inner",
    )
    given = layers.Input((8,))
    return keras().Model(given, layers.Dense(4, name="out")(layers.Add()([inner(given), given])))


def shared() -> Any:
    layers = keras().layers
    given = layers.Input((8,))
    twice = layers.Dense(8, activation="relu", name="twice")
    hidden = layers.Dense(12, name="wide")(twice(twice(given)))
    merged = layers.Concatenate()([hidden, given]) * 0.5
    return keras().Model(given, layers.Dense(4, name="out")(merged))


NETWORKS: dict[str, Callable[[], Any]] = {
    "conv": conv,
    "residual": residual,
    "separable": separable,
    "lstm": lstm,
    "nested": nested,
    "shared": shared,
}
