from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from tests.compression.networks import keras
from tests.conformance.decomposition import DecompositionConformance


class TestTensorFlowDecomposition(DecompositionConformance):
    def kernels(self, path: Path) -> Mapping[str, npt.NDArray[Any]]:
        model = keras().models.load_model(path, compile=False)
        return {layer.name: layer.kernel.numpy() for layer in model.layers if hasattr(layer, "kernel")}
