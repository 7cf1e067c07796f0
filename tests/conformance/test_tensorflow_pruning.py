from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from tests.compression.networks import keras, save_model
from tests.conformance.pruning import PruningConformance


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
