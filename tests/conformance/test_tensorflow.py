from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pytest

from tests.compression.networks import digits, keras, save_trained_cnn
from tests.conformance.conformance import Conformance


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_trained_cnn(tmp_path_factory.mktemp("model") / "cnn.keras", *digits())


class TestTensorFlow(Conformance):
    framework = "tensorflow"

    def kernels(self, path: Path) -> Mapping[str, npt.NDArray[Any]]:
        model = keras().models.load_model(path, compile=False)
        return {name: model.get_layer(name).kernel.numpy() for name in ("conv", "logits")}
