from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.compression.networks import digits, keras, save_model
from tests.conformance.pruning import PruningConformance


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def data_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    x, y = digits()
    np.savez(path, x=x, y=y)
    return path


class TestTensorFlowPruning(PruningConformance):
    def kernels(self, path: Path) -> Mapping[str, npt.NDArray[Any]]:
        model = keras().models.load_model(path, compile=False)
        return {name: model.get_layer(name).kernel.numpy() for name in ("conv", "mixed", "logits")}

    def save_mobile_network(self, path: Path) -> Path:
        layers = keras().layers
        model = keras().Sequential(
            [
                layers.InputLayer((16, 16, 3)),
                layers.ZeroPadding2D(1),
                layers.Conv2D(8, 3, strides=2, padding="valid", name="stem"),
                layers.ReLU(),
                layers.DepthwiseConv2D(3, padding="same", name="depthwise"),
                layers.Conv2D(64, 1, name="expand"),
                layers.ReLU(),
                layers.Conv2D(64, 1, name="pointwise"),
                layers.ReLU(),
                layers.GlobalAveragePooling2D(),
                layers.Dense(10, name="head"),
            ]
        )
        return save_model(model, path)
