"""A tiny real model of two inputs and two outputs with a shared trunk, and data it can learn."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.compression.networks import keras, save_model

__all__ = ["CLASSES", "arrays", "samples", "save_trained"]

Array = npt.NDArray[Any]

CLASSES = 3
NAMES = ("zoom", "angle")  # against the order of the alphabet, which a converted file has
OUTPUTS = ("size", "kind")


def samples(count: int = 600, seed: int = 0) -> dict[str, Array]:
    """Inputs of 6 and 4 numbers, of scales a hundredfold apart; a number and a class that need both."""
    generator = np.random.default_rng(seed)
    zoom = generator.normal(size=(count, 6)).astype(np.float32)
    angle = (100 * generator.normal(size=(count, 4))).astype(np.float32)
    size = zoom @ np.linspace(-1, 1, 6) + angle @ np.linspace(0.5, -0.5, 4) / 50
    steep = zoom[:, 0] + angle[:, 1] / 100
    kind = np.digitize(steep, np.quantile(steep, [1 / 3, 2 / 3]))
    return {"zoom": zoom, "angle": angle, "size": size.astype(np.float32), "kind": kind}


def arrays(**changes: Array | None) -> dict[str, Array]:
    """As the data set names them; None leaves one out."""
    made = samples()
    named = {f"x/{name}": made[name] for name in NAMES} | {f"y/{name}": made[name] for name in OUTPUTS}
    named |= {name.replace("__", "/"): array for name, array in changes.items() if array is not None}
    for name, array in changes.items():
        if array is None:
            del named[name.replace("__", "/")]
    return named


def save_trained(path: Path, *, compiled: bool = True) -> Path:
    layers = keras().layers
    keras().utils.set_random_seed(zlib.crc32(b"several"))
    zoom, angle = (layers.Input((width,), name=name) for name, width in zip(NAMES, (6, 4), strict=True))
    scaled = layers.Rescaling(0.01, name="scaled")(angle)
    trunk = layers.Dense(48, activation="relu", name="trunk")(layers.Concatenate()([zoom, scaled]))
    size = layers.Dense(1, name="size")(layers.Dense(24, activation="relu", name="towards_size")(trunk))
    kind = layers.Dense(CLASSES, activation="softmax", name="kind")(trunk)
    model = keras().Model([zoom, angle], [size, kind])
    model.compile(
        keras().optimizers.legacy.Adam(0.01),
        {"size": "mean_squared_error", "kind": "sparse_categorical_crossentropy"},
        metrics={"kind": ["accuracy"], "size": ["mae"]},
        loss_weights={"size": 0.5},
    )
    made = samples()
    model.fit(
        [made["zoom"], made["angle"]], [made["size"], made["kind"]], epochs=20, batch_size=32, verbose=0
    )
    if not compiled:
        model = keras().Model(model.inputs, model.outputs)
    return save_model(model, path)
