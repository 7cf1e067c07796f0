from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt
import pytest

from tests.conformance.exported import every_kernel, save_digit_classifier
from tests.conformance.pairs import PairsConformance


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_digit_classifier(tmp_path_factory.mktemp("model") / "cnn.pt2")


class TestTorchPairs(PairsConformance):
    native = "pt2"

    def kernels(self, path: Path) -> list[npt.NDArray[Any]]:
        return list(every_kernel(path).values())
