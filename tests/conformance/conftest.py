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
"""With this in the environment, every combination of parameters is run."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of a test with many parameters one combination is run, the last by PyTorch and the first by TensorFlow:
    all of them, for two frameworks, take longer than all other tests. `make conformance` runs all."""
    if os.environ.get(WHOLE):
        return
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.path.parent == Path(__file__).parent:
            groups.setdefault(item.nodeid.partition("[")[0], []).append(item)
    kept = {id(item) for group in groups.values() for item in _thinned(group)}
    dropped = [item for group in groups.values() for item in group if id(item) not in kept]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        gone = {id(item) for item in dropped}
        items[:] = [item for item in items if id(item) not in gone]


def _thinned(group: list[pytest.Item]) -> list[pytest.Item]:
    return group[-1:] if "torch" in group[0].path.stem else group[:1]
