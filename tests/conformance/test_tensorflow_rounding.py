from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.compression.networks import keras
from tests.conformance.rounding import SHAPES, RoundingConformance


class TestTensorFlow(RoundingConformance):
    def kernels(self, path: Path) -> Mapping[str, npt.NDArray[Any]]:
        model = keras().models.load_model(path, compile=False)
        found = {name: np.moveaxis(model.get_layer(name).kernel.numpy(), -1, 0) for name in SHAPES}
        return {name: kernel.reshape(len(kernel), -1) for name, kernel in found.items()}
