"""Small real parts: scikit-free digits, a network trained on them once for the session, helpers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.compression.networks import DIGIT_CLASSES, digits, save_trained_cnn

Arrays = dict[str, npt.NDArray[Any]]


@pytest.fixture(scope="session")
def digit_arrays() -> Arrays:
    x, y = digits()
    assert len(np.unique(y)) == DIGIT_CLASSES
    return {"x": x, "y": y}


@pytest.fixture(scope="session")
def digit_file(digit_arrays: Arrays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(path, **digit_arrays)
    return path


@pytest.fixture(scope="session")
def cnn_file(digit_arrays: Arrays, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "cnn.keras"
    save_trained_cnn(path, digit_arrays["x"], digit_arrays["y"])
    return path


@pytest.fixture
def save_data(tmp_path: Path) -> Callable[..., Path]:
    def save(**arrays: npt.NDArray[Any]) -> Path:
        path = tmp_path / "data.npz"
        np.savez(path, **arrays)
        return path

    return save
