from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from tests.compression.networks import keras
from tests.conformance.clustering import ClusteringConformance


class TestTensorFlowClustering(ClusteringConformance):
    def kernels(self, path: Path) -> Mapping[str, npt.NDArray[Any]]:
        model = keras().models.load_model(path, compile=False)
        return {name: model.get_layer(name).kernel.numpy() for name in ("conv", "mixed", "logits")}
