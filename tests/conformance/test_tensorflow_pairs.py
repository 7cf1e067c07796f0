from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt

from tests.compression.networks import keras
from tests.conformance.pairs import PairsConformance


class TestTensorFlowPairs(PairsConformance):
    def kernels(self, path: Path) -> list[npt.NDArray[Any]]:
        model = keras().models.load_model(path, compile=False)
        return [layer.kernel.numpy() for layer in model.layers if hasattr(layer, "kernel")]
