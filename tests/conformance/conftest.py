"""The model and the data that conformance is shown on, where a suite does not bring its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.compression.networks import digits, keras, save_model


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    layers = keras().layers
    keras().utils.set_random_seed(0)
    model = keras().Sequential(
        [
            layers.InputLayer((28, 28)),
            layers.Reshape((28, 28, 1)),
            layers.Conv2D(8, 3, strides=2, activation="relu", name="conv"),
            layers.Conv2D(12, 3, strides=2, activation="relu", name="mixed"),
            layers.Flatten(),
            layers.Dense(10, name="logits"),
        ]
    )
    model.compile("adam", keras().losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*digits(), epochs=4, batch_size=64, verbose=0)
    return save_model(model, tmp_path_factory.mktemp("model") / "cnn.keras")


@pytest.fixture(scope="session")
def data_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    x, y = digits()
    np.savez(path, x=x, y=y)
    return path
