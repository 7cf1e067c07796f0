"""The model and the data that conformance is shown on, where a suite does not bring its own."""

from __future__ import annotations

import os
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


WHOLE = "FEATHERWEIGHT_WHOLE_CONFORMANCE"
"""With this in the environment, PyTorch's conformance is every combination that TensorFlow's is."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of what is asked of PyTorch again with other parameters, the first and the last are run: all of it, for
    both frameworks, takes longer than all the rest. `make conformance` runs all."""
    if os.environ.get(WHOLE):
        return
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.path.parent == Path(__file__).parent and item.path.name.startswith("test_torch"):
            name = item.nodeid.partition("[")[0]
            groups.setdefault(name, []).append(item)
    dropped = {id(item) for group in groups.values() for item in group[1:-1]}
    if dropped:
        config.hook.pytest_deselected(items=[item for item in items if id(item) in dropped])
        items[:] = [item for item in items if id(item) not in dropped]
