"""Tiny trained networks and their data: what the jobs of a chaos run are about.

    python -m tests.chaos.inputs DIRECTORY

writes them, in a process of its own: TensorFlow stays there. All tell the four corners of a square apart.
Two are large in one way each: the file of ``wide`` is larger than a part of an upload to storage, and so are
the outputs made of it; the data of ``tall`` are larger than a part of the client's uploads.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["MODELS", "data_path", "main", "model_path"]

MODELS = ("dense", "conv", "wide", "tall")

_CLASSES = 4
_SAMPLES = {"dense": 800, "conv": 600, "wide": 400, "tall": 66_000}
_TEST_SAMPLES = 200
_SHAPE = {"dense": (16,), "conv": (12, 12, 1), "wide": (64,), "tall": (64,)}

Array = "np.ndarray[Any, Any]"


def model_path(directory: Path, name: str) -> Path:
    return directory / f"{name}.keras"


def data_path(directory: Path, name: str) -> Path:
    return directory / f"{name}.npz"


def main(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(MODELS):
        chance = np.random.default_rng(number)
        x, y = _samples(chance, _SAMPLES[name] + _TEST_SAMPLES, _SHAPE[name])
        n = _SAMPLES[name]
        np.savez(data_path(directory, name), x_train=x[:n], y_train=y[:n], x_test=x[n:], y_test=y[n:])
        _train(name, x[:600], y[:600], model_path(directory, name))


def _samples(chance: np.random.Generator, count: int, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Noise, with the class in the mean of the first and of the second half."""
    y = chance.integers(_CLASSES, size=count)
    x = chance.normal(size=(count, int(np.prod(shape)))).astype(np.float32)
    half = x.shape[1] // 2
    x[:, :half] += (y % 2)[:, None]
    x[:, half:] += (y // 2)[:, None]
    return x.reshape(count, *shape), y.astype(np.int64)


def _train(name: str, x: Any, y: Any, path: Path) -> None:
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tf_keras as keras

    keras.utils.set_random_seed(MODELS.index(name))
    layers = keras.layers
    hidden = {
        "dense": [layers.Dense(32, activation="relu")],
        "conv": [layers.Conv2D(8, 3, strides=2, activation="relu"), layers.Flatten()],
        "wide": [layers.Dense(2048, activation="relu"), layers.Dense(700, activation="relu")],
        "tall": [layers.Dense(32, activation="relu")],
    }[name]
    model = keras.Sequential([layers.Input(_SHAPE[name]), *hidden, layers.Dense(_CLASSES)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    model.fit(x, y, epochs=3, batch_size=64, verbose=0)
    # Without the optimiser's state, which would make the file three times as large.
    trained = keras.models.clone_model(model)
    trained.set_weights(model.get_weights())
    trained.compile("adam", loss, metrics=["accuracy"])
    trained.save(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
