from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pytest
from torch import nn

from tasks.compression import CompressionError, compress
from tests.conformance.exported import export, kernels_of, save_digit_classifier
from tests.conformance.pruning import PruningConformance


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_digit_classifier(tmp_path_factory.mktemp("model") / "cnn.pt2")


class TestTorchPruning(PruningConformance):
    native = "pt2"
    beside = ()
    magnitude_bears = 0.7

    def kernels(self, path: Path) -> Mapping[str, npt.NDArray[Any]]:
        return kernels_of(path, "conv", "mixed", "logits")

    def save_mobile_network(self, path: Path) -> Path:
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 64, 1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, 10),
        )
        path.write_bytes(export(model, 3, 16, 16))
        return path

    def test_xnnpack_latency_prunes_the_pointwise_convolutions(self, tmp_path: Path) -> None:
        """What is promised for networks of Keras; those of PyTorch are refused, of the same layers too."""
        path = self.save_mobile_network(tmp_path / "mobile.pt2")
        spec = {"steps": [{"technique": "prune", "pattern": {"type": "xnnpack_latency"}}]}
        with pytest.raises(CompressionError, match="XNNPACK") as caught:
            compress(path, spec, workdir=tmp_path / "work")
        assert caught.value.pointer == "/steps/0/pattern"
